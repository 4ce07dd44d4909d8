// Subscriber follows the public topic job_runs with a plain Kafka client and keeps the read model of job runs.
//
//	go run .              from the start, for ever; tells each change
//	go run . -until-end   up to the present end, then prints the model as JSON
//
// TOWPATH_KAFKA (localhost:9092) and TOWPATH_TOPIC_PREFIX (towpath) say where. The model is in memory; keep model and
// offsets together, in one transaction, and what is delivered again is dropped by its number.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	contracts "subscriber/contracts/v1"
)

// FailedStep is where a run failed.
type FailedStep struct {
	WorkflowRunID string `json:"workflowRunId"`
	StepID        string `json:"stepId"`
	Name          string `json:"name"`
}

// JobRun is one job run as the API would answer it.
type JobRun struct {
	ID                string           `json:"id"`
	JobID             string           `json:"jobId"`
	OrganizationID    string           `json:"organizationId"`
	Status            string           `json:"status"`
	WorkflowRunIDs    []string         `json:"workflowRunIds"`
	WorkflowRevisions map[string]int32 `json:"workflowRevisions"`
	TestMode          bool             `json:"testMode"`
	RetryOf           *string          `json:"retryOf"`
	CreatedByUserID   string           `json:"createdByUserId"`
	CreatedAt         string           `json:"createdAt"`
	StartedAt         *string          `json:"startedAt"`
	CompletedAt       *string          `json:"completedAt"`
	UpdatedAt         string           `json:"updatedAt"`
	ErrorReason       *string          `json:"errorReason"`
	FailedStep        *FailedStep      `json:"failedStep"`
}

// Model is the read model; take is the whole rule of a subscriber.
type Model struct {
	Runs     map[string]*JobRun `json:"runs"`
	Repeated int                `json:"repeated"`
	seen     map[string]int     // highest number of each key
}

func (m *Model) take(record *kgo.Record) (bool, error) {
	headers := map[string]string{}
	for _, header := range record.Headers {
		headers[header.Key] = string(header.Value)
	}
	key := string(record.Key)
	sequence, err := strconv.Atoi(headers["ce_sequence"])
	if err != nil {
		return false, nil // a refused request: no part of anybody's history
	}
	if sequence <= m.seen[key] {
		m.Repeated++
		return false, nil
	}
	if sequence != m.seen[key]+1 {
		return false, fmt.Errorf("%s: number %d follows %d", key, sequence, m.seen[key])
	}
	m.seen[key] = sequence
	return m.fold(headers["ce_type"], record.Value, headers["ce_time"])
}

func (m *Model) fold(eventType string, value []byte, time string) (bool, error) {
	switch eventType {
	case "towpath.job_run.created.v1":
		var event contracts.JobRunCreated
		err := proto.Unmarshal(value, &event)
		m.Runs[event.GetJobRunId()] = created(&event, time)
		return true, err
	case "towpath.workflow_run.created.v1":
		var event contracts.WorkflowRunCreated
		err := proto.Unmarshal(value, &event)
		if run := m.Runs[event.GetJobRunId()]; run != nil {
			run.WorkflowRunIDs = append(run.WorkflowRunIDs, event.GetWorkflowRunId())
		}
		return true, err
	case "towpath.job_run.started.v1":
		var event contracts.JobRunStarted
		err := proto.Unmarshal(value, &event)
		run := m.Runs[event.GetJobRunId()]
		run.Status, run.StartedAt, run.UpdatedAt = "IN_PROGRESS", &time, time
		return true, err
	case "towpath.job_run.completed.v1":
		var event contracts.JobRunCompleted
		err := proto.Unmarshal(value, &event)
		m.Runs[event.GetJobRunId()].end("COMPLETED", time, nil)
		return true, err
	case "towpath.job_run.failed.v1":
		var event contracts.JobRunFailed
		err := proto.Unmarshal(value, &event)
		run, failure := m.Runs[event.GetJobRunId()], event.GetFailure()
		run.end("FAILED", time, proto.String(failure.GetCode()))
		if failure.GetStepId() != "" {
			run.FailedStep = &FailedStep{event.GetWorkflowRunId(), failure.GetStepId(), failure.GetStepName()}
		}
		return true, err
	case "towpath.job_run.cancelled.v1":
		var event contracts.JobRunCancelled
		err := proto.Unmarshal(value, &event)
		m.Runs[event.GetJobRunId()].end("FAILED", time, proto.String("cancelled"))
		return true, err
	}
	return false, nil // a type of no interest here, or younger than this program
}

func created(event *contracts.JobRunCreated, time string) *JobRun {
	run := &JobRun{
		ID: event.GetJobRunId(), JobID: event.GetJobId(), OrganizationID: event.GetOrganizationId(), Status: "PENDING",
		WorkflowRunIDs: []string{}, WorkflowRevisions: map[string]int32{}, TestMode: event.GetTestMode(),
		CreatedByUserID: event.GetCreatedBy(), CreatedAt: time, UpdatedAt: time,
	}
	for at, id := range event.GetWorkflowIds() {
		run.WorkflowRevisions[id] = event.GetWorkflowRevisions()[at]
	}
	if event.GetRetryOf() != "" {
		run.RetryOf = proto.String(event.GetRetryOf())
	}
	return run
}

func (run *JobRun) end(status, time string, reason *string) {
	run.Status, run.CompletedAt, run.UpdatedAt, run.ErrorReason = status, &time, time, reason
}

func setting(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

func main() {
	untilEnd := flag.Bool("until-end", false, "stop at the present end and print the model as JSON")
	flag.Parse()
	ctx, topic := context.Background(), setting("TOWPATH_TOPIC_PREFIX", "towpath")+".job_runs.g1"
	client, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(setting("TOWPATH_KAFKA", "localhost:9092"), ",")...),
		kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
	)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	listed, err := kadm.NewClient(client).ListEndOffsets(ctx, topic)
	if err != nil {
		log.Fatal(err)
	}
	unfinished := map[int32]int64{} // partition to its present end
	listed.Each(func(end kadm.ListedOffset) {
		if end.Offset > 0 {
			unfinished[end.Partition] = end.Offset
		}
	})
	model := &Model{Runs: map[string]*JobRun{}, seen: map[string]int{}}
	for len(unfinished) > 0 || !*untilEnd {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			log.Fatal(err)
		}
		fetches.EachRecord(func(record *kgo.Record) {
			changed, err := model.take(record)
			if err != nil {
				log.Fatal(err)
			}
			if run := model.Runs[string(record.Key)]; changed && run != nil && !*untilEnd {
				fmt.Println(run.UpdatedAt, run.ID, run.Status)
			}
			if end, waited := unfinished[record.Partition]; waited && record.Offset+1 >= end {
				delete(unfinished, record.Partition)
			}
		})
	}
	if err := json.NewEncoder(os.Stdout).Encode(model); err != nil {
		log.Fatal(err)
	}
}
