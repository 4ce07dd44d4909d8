// Opens a sealed value. Fetch the key with an API key of level `events`:
//   GET /api/v2/subject-keys?subjectId=…   ->   {"data": [{"subjectId": "…", "key": "<base64>"}], "gone": []}
// A subject in `gone` was erased, and its values are unreadable for good.
import { createDecipheriv } from 'node:crypto';

/** The plaintext of a box as a Buffer. `purpose`: 'text' for Sealed, 'json' for SealedBody. Throws if it does not open. */
export function unseal(box, key, subjectId, purpose) {
  if (box[0] !== 1) throw new Error('no sealed box of a known version');
  const decipher = createDecipheriv('aes-256-gcm', key, box.subarray(1, 13));
  decipher.setAAD(Buffer.from(['towpath/sealed/1', subjectId, purpose].join('\u001f')));
  decipher.setAuthTag(box.subarray(box.length - 16));
  return Buffer.concat([decipher.update(box.subarray(13, box.length - 16)), decipher.final()]);
}

/** Keys by subject, at most a hundred at once; a subject that was erased is missing. */
export async function subjectKeys(url, apiKey, subjectIds) {
  const query = new URLSearchParams(subjectIds.map((id) => ['subjectId', id]));
  const answer = await fetch(`${url}/api/v2/subject-keys?${query}`, { headers: { Authorization: `Bearer ${apiKey}` } });
  if (!answer.ok) throw new Error(`${answer.status}: ${await answer.text()}`);
  const { data } = await answer.json();
  return Object.fromEntries(data.map((one) => [one.subjectId, Buffer.from(one.key, 'base64')]));
}
