// Follows the public topic `job_runs` with a plain Kafka client and keeps the read model of job runs.
//
//   node subscriber.mjs               from where it was, for ever; tells each change
//   node subscriber.mjs --until-end   up to the present end, then prints the model as JSON
//
// TOWPATH_KAFKA (localhost:9092), TOWPATH_TOPIC_PREFIX (towpath), PROTOS (./protos), STATE (a file; without it nothing is
// kept). Model and offsets are saved together, so that they never disagree: what was folded after the last save is
// delivered again and dropped by its number.
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { Kafka, logLevel } from 'kafkajs';
import { contracts, JobRuns } from './job_runs.mjs';

const { TOWPATH_KAFKA = 'localhost:9092', TOWPATH_TOPIC_PREFIX = 'towpath', PROTOS = './protos', STATE } = process.env;
const untilEnd = process.argv.includes('--until-end');
const topic = `${TOWPATH_TOPIC_PREFIX}.job_runs.g1`;

const saved = STATE && existsSync(STATE) ? JSON.parse(readFileSync(STATE, 'utf8')) : {};
const model = new JobRuns(contracts(PROTOS), saved);
const offsets = saved.offsets ?? {};

const kafka = new Kafka({ brokers: TOWPATH_KAFKA.split(','), logLevel: logLevel.ERROR });
const admin = kafka.admin();
await admin.connect();
const ends = await admin.fetchTopicOffsets(topic);
await admin.disconnect();
const unfinished = new Map(ends.map(({ partition, low, high }) => [partition, { low: Number(low), high: Number(high) }]));
const isRead = (partition) => Number(offsets[partition] ?? unfinished.get(partition).low) >= unfinished.get(partition).high;
for (const partition of [...unfinished.keys()]) if (isRead(partition)) unfinished.delete(partition);

// kafkajs reads within a group only; one of its own, whose committed offsets are never used.
const consumer = kafka.consumer({ groupId: `job-runs-example-${process.pid}`, readUncommitted: false });
let done;
const finished = new Promise((resolve) => { done = resolve; });

function save() {
  if (!STATE) return;
  writeFileSync(`${STATE}.new`, JSON.stringify({ offsets, runs: model.runs, seen: model.seen }));
  renameSync(`${STATE}.new`, STATE);
}

function take(message) {
  const headers = Object.fromEntries(Object.entries(message.headers).map(([name, value]) => [name, value.toString()]));
  const key = message.key.toString();
  if (model.take(key, headers, message.value) && !untilEnd) {
    console.log(headers.ce_time, headers.ce_type, key, model.runs[key].status);
  }
}

async function eachBatch({ batch, heartbeat }) {
  for (const message of batch.messages) {
    if (Number(message.offset) < Number(offsets[batch.partition] ?? 0)) continue;
    take(message);
    offsets[batch.partition] = Number(message.offset) + 1;
  }
  save();
  await heartbeat();
  if (unfinished.has(batch.partition) && isRead(batch.partition)) unfinished.delete(batch.partition);
  if (untilEnd && unfinished.size === 0) done();
}

if (unfinished.size > 0 || !untilEnd) {
  await consumer.connect();
  await consumer.subscribe({ topic, fromBeginning: true });
  await consumer.run({ autoCommit: false, eachBatch });
  for (const [partition, offset] of Object.entries(offsets)) {
    consumer.seek({ topic, partition: Number(partition), offset: String(offset) });
  }
  await finished;
  await consumer.disconnect();
}
console.log(JSON.stringify({ runs: model.runs, repeated: model.repeated }));
