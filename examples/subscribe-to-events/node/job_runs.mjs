// The read model of job runs, from public facts alone: how each stands, as the API would answer.
// `take` is the whole rule of a subscriber: per key, drop what is not above the highest number that was seen; step over
// types that are not known; fold the rest.
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import protobuf from 'protobufjs';

const NAMES = {
  'towpath.job_run.created.v1': 'JobRunCreated',
  'towpath.job_run.started.v1': 'JobRunStarted',
  'towpath.job_run.completed.v1': 'JobRunCompleted',
  'towpath.job_run.failed.v1': 'JobRunFailed',
  'towpath.job_run.cancelled.v1': 'JobRunCancelled',
  'towpath.workflow_run.created.v1': 'WorkflowRunCreated',
};

/** Message classes from the proto files below `folder`; they import each other as `contracts/v1/…`. */
export function contracts(folder) {
  const root = new protobuf.Root();
  root.resolvePath = (_origin, target) => (target.startsWith('contracts/') ? join(folder, target) : target);
  const files = readdirSync(join(folder, 'contracts/v1')).filter((name) => name.endsWith('.proto'));
  root.loadSync(files.map((name) => `contracts/v1/${name}`));
  return Object.fromEntries(Object.entries(NAMES).map(([type, name]) => [type, root.lookupType(`contracts.v1.${name}`)]));
}

export class JobRuns {
  /** `runs`: id to how it stands. `seen`: highest number of each key. Both are plain JSON, ready to be saved. */
  constructor(messages, { runs = {}, seen = {} } = {}) {
    this.messages = messages;
    this.runs = runs;
    this.seen = seen;
    this.repeated = 0;
  }

  /** Fold one record; whether it changed anything. `headers` are texts, `value` is a Buffer. */
  take(key, headers, value) {
    const sequence = Number(headers.ce_sequence ?? 0);
    if (!sequence) return false; // a refused request: no part of anybody's history
    const highest = this.seen[key] ?? 0;
    if (sequence <= highest) {
      this.repeated += 1;
      return false;
    }
    if (sequence !== highest + 1) throw new Error(`${key}: number ${sequence} follows ${highest}`);
    this.seen[key] = sequence;
    const message = this.messages[headers.ce_type];
    if (!message) return false; // a type of no interest here, or younger than this program
    return this.#fold(message.name, message.decode(value), headers.ce_time);
  }

  #fold(name, event, time) {
    if (name === 'JobRunCreated') {
      this.runs[event.jobRunId] = created(event, time);
      return true;
    }
    const run = this.runs[event.jobRunId];
    if (!run) return false; // a workflow run that stands alone
    if (name === 'WorkflowRunCreated') {
      run.workflowRunIds.push(event.workflowRunId);
      return true;
    }
    run.updatedAt = time;
    if (name === 'JobRunStarted') {
      Object.assign(run, { status: 'IN_PROGRESS', startedAt: time });
      return true;
    }
    run.completedAt = time;
    if (name === 'JobRunCompleted') run.status = 'COMPLETED';
    else if (name === 'JobRunFailed') {
      Object.assign(run, { status: 'FAILED', errorReason: event.failure.code, failedStep: failedStep(event) });
    } else Object.assign(run, { status: 'FAILED', errorReason: 'cancelled' });
    return true;
  }
}

function created(event, time) {
  return {
    id: event.jobRunId,
    jobId: event.jobId,
    organizationId: event.organizationId,
    status: 'PENDING',
    workflowRunIds: [],
    workflowRevisions: Object.fromEntries(event.workflowIds.map((id, at) => [id, event.workflowRevisions[at]])),
    testMode: event.testMode,
    retryOf: event.retryOf || null,
    createdByUserId: event.createdBy,
    createdAt: time,
    startedAt: null,
    completedAt: null,
    updatedAt: time,
    errorReason: null,
    failedStep: null,
  };
}

function failedStep({ workflowRunId, failure }) {
  return failure.stepId ? { workflowRunId, stepId: failure.stepId, name: failure.stepName } : null;
}
