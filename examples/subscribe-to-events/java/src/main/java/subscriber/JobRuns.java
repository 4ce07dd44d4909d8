package subscriber;

import com.google.protobuf.InvalidProtocolBufferException;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import towpath.contracts.v1.Failure;
import towpath.contracts.v1.JobRunCancelled;
import towpath.contracts.v1.JobRunCompleted;
import towpath.contracts.v1.JobRunCreated;
import towpath.contracts.v1.JobRunFailed;
import towpath.contracts.v1.JobRunStarted;
import towpath.contracts.v1.WorkflowRunCreated;

/**
 * The read model of job runs, from public facts alone: how each stands, as the API would answer.
 *
 * <p>{@link #take} is the whole rule of a subscriber: per key, drop what is not above the highest number that was seen;
 * step over types that are not known; fold the rest.
 */
final class JobRuns {
  final Map<String, Map<String, Object>> runs = new LinkedHashMap<>();
  int repeated;
  private final Map<String, Long> seen = new HashMap<>();

  /** Fold one record; whether it changed anything. */
  boolean take(String key, Map<String, String> headers, byte[] value) throws InvalidProtocolBufferException {
    if (!headers.containsKey("ce_sequence")) {
      return false; // a refused request: no part of anybody's history
    }
    long sequence = Long.parseLong(headers.get("ce_sequence"));
    long highest = seen.getOrDefault(key, 0L);
    if (sequence <= highest) {
      repeated++;
      return false;
    }
    if (sequence != highest + 1) {
      throw new IllegalStateException(key + ": number " + sequence + " follows " + highest);
    }
    seen.put(key, sequence);
    return fold(headers.get("ce_type"), value, headers.get("ce_time"));
  }

  private boolean fold(String type, byte[] value, String time) throws InvalidProtocolBufferException {
    switch (type) {
      case "towpath.job_run.created.v1" -> {
        JobRunCreated event = JobRunCreated.parseFrom(value);
        runs.put(event.getJobRunId(), created(event, time));
      }
      case "towpath.workflow_run.created.v1" -> {
        WorkflowRunCreated event = WorkflowRunCreated.parseFrom(value);
        Map<String, Object> run = runs.get(event.getJobRunId());
        if (run == null) {
          return false; // it stands alone
        }
        @SuppressWarnings("unchecked")
        List<String> parts = (List<String>) run.get("workflowRunIds");
        parts.add(event.getWorkflowRunId());
      }
      case "towpath.job_run.started.v1" ->
          change(JobRunStarted.parseFrom(value).getJobRunId(), "IN_PROGRESS", time).put("startedAt", time);
      case "towpath.job_run.completed.v1" ->
          change(JobRunCompleted.parseFrom(value).getJobRunId(), "COMPLETED", time).put("completedAt", time);
      case "towpath.job_run.failed.v1" -> {
        JobRunFailed event = JobRunFailed.parseFrom(value);
        Failure failure = event.getFailure();
        Map<String, Object> run = change(event.getJobRunId(), "FAILED", time);
        run.put("completedAt", time);
        run.put("errorReason", failure.getCode());
        if (!failure.getStepId().isEmpty()) {
          run.put("failedStep", Map.of(
              "workflowRunId", event.getWorkflowRunId(), "stepId", failure.getStepId(), "name", failure.getStepName()));
        }
      }
      case "towpath.job_run.cancelled.v1" -> {
        Map<String, Object> run = change(JobRunCancelled.parseFrom(value).getJobRunId(), "FAILED", time);
        run.put("completedAt", time);
        run.put("errorReason", "cancelled");
      }
      default -> {
        return false; // a type of no interest here, or younger than this program
      }
    }
    return true;
  }

  private Map<String, Object> change(String id, String status, String time) {
    Map<String, Object> run = runs.get(id);
    run.put("status", status);
    run.put("updatedAt", time);
    return run;
  }

  private static Map<String, Object> created(JobRunCreated event, String time) {
    Map<String, Integer> revisions = new LinkedHashMap<>();
    for (int at = 0; at < event.getWorkflowIdsCount(); at++) {
      revisions.put(event.getWorkflowIds(at), event.getWorkflowRevisions(at));
    }
    Map<String, Object> run = new LinkedHashMap<>();
    run.put("id", event.getJobRunId());
    run.put("jobId", event.getJobId());
    run.put("organizationId", event.getOrganizationId());
    run.put("status", "PENDING");
    run.put("workflowRunIds", new ArrayList<String>());
    run.put("workflowRevisions", revisions);
    run.put("testMode", event.getTestMode());
    run.put("retryOf", event.getRetryOf().isEmpty() ? null : event.getRetryOf());
    run.put("createdByUserId", event.getCreatedBy());
    run.put("createdAt", time);
    run.put("startedAt", null);
    run.put("completedAt", null);
    run.put("updatedAt", time);
    run.put("errorReason", null);
    run.put("failedStep", null);
    return run;
  }
}
