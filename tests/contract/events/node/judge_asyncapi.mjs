// Reads an AsyncAPI document with AsyncAPI's own parser and prints what it found as JSON.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const [file, packages] = process.argv.slice(2);
const { Parser } = createRequire(`${packages}/`)('@asyncapi/parser');
const { document, diagnostics } = await new Parser().parse(readFileSync(file, 'utf8'));
const channels = document?.channels().all() ?? [];
console.log(JSON.stringify({
  diagnostics: diagnostics.map(({ severity, code, path, message }) => ({ severity, code, path: path.join('/'), message })),
  messages: document?.allMessages().all().map((message) => message.id()) ?? [],
  channels: channels.map((channel) => [channel.address(), channel.bindings().get('kafka').value()]),
}));
