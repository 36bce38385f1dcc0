// A worker for workqueue, with nothing but Go's standard library.
//
//	go run worker.go [QUEUE]        WORKQUEUE_URL=http://127.0.0.1:5000  WORKQUEUE_LEASE=60
//
// Copy it, and replace handle. It stops on SIGTERM or Ctrl-C, after the task that it is doing.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

type end struct {
	ID    string `json:"id"`
	Token string `json:"token"`
}

type task struct {
	end
	Payload json.RawMessage `json:"payload"`
}

var (
	url   = or("WORKQUEUE_URL", "http://127.0.0.1:5000") + "/api/v1"
	lease = 60.0
)

// handle is the work. Its error is that of a failed attempt, which is tried again later.
func handle(payload json.RawMessage) error {
	var asked struct {
		Fail    string
		Seconds float64
	}
	if json.Unmarshal(payload, &asked) == nil { // An object; other payloads are printed only.
		if asked.Fail != "" {
			return errors.New(asked.Fail)
		}
		time.Sleep(time.Duration(asked.Seconds * float64(time.Second)))
	}
	fmt.Println(string(payload))
	return nil
}

// call asks until the daemon answers, with growing pauses while it restarts, or until the context ends.
func call(ctx context.Context, path string, body any, answer any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		again, err := once(ctx, path, text, answer)
		if !again || ctx.Err() != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "the daemon does not answer, again in %v: %v\n", pause, err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// once asks one time, and gives whether asking again may help.
func once(ctx context.Context, path string, text []byte, answer any) (bool, error) {
	request, err := http.NewRequestWithContext(ctx, "POST", url+path, bytes.NewReader(text))
	if err != nil {
		return false, err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return true, err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return true, err
	}
	if response.StatusCode >= 400 { // A problem document: its "detail" says in words what is wrong.
		return response.StatusCode >= 500, fmt.Errorf("%s: %s", path, content)
	}
	return false, json.Unmarshal(content, answer)
}

// extend keeps the lease while the work lasts.
func extend(ctx context.Context, t task) {
	ticks := time.NewTicker(time.Duration(lease / 3 * float64(time.Second)))
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
		}
		body := map[string]any{"token": t.Token, "lease": lease}
		if err := call(ctx, "/tasks/"+t.ID+"/extend", body, new(any)); err != nil && ctx.Err() == nil {
			fmt.Fprintln(os.Stderr, "the lease is lost:", err)
			return
		}
	}
}

// work does one task, and gives what the next claim tells of it: nothing where the attempt failed.
func work(t task) []end {
	working, done := context.WithCancel(context.Background())
	go extend(working, t)
	failure := handle(t.Payload)
	done()
	if failure == nil {
		return []end{t.end}
	}
	body := map[string]any{"token": t.Token, "error": failure.Error()}
	if err := call(context.Background(), "/tasks/"+t.ID+"/fail", body, new(any)); err != nil {
		fmt.Fprintln(os.Stderr, "the lease is lost:", err)
	}
	return []end{}
}

func main() {
	queue := "default"
	if len(os.Args) > 1 {
		queue = os.Args[1]
	}
	var err error
	if lease, err = strconv.ParseFloat(or("WORKQUEUE_LEASE", "60"), 64); err != nil || lease <= 0 {
		fmt.Fprintln(os.Stderr, "WORKQUEUE_LEASE: a number of seconds is expected")
		os.Exit(1)
	}
	// A claim that waits is given up by a stop; what it was just handed comes back when its lease ends.
	running, _ := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	completed := []end{}
	for running.Err() == nil {
		var answer struct{ Tasks []task }
		err := call(running, "/claim", map[string]any{
			"queues": []string{queue}, "wait": 30, "lease": lease, "complete": completed,
			"worker": fmt.Sprintf("go:%d", os.Getpid()),
		}, &answer)
		if running.Err() != nil {
			break
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		completed = []end{}
		for _, t := range answer.Tasks {
			completed = append(completed, work(t)...)
		}
	}
	if len(completed) > 0 { // Said again where it is not sure that it was heard: the second time does nothing.
		body := map[string]any{"max": 0, "complete": completed}
		if err := call(context.Background(), "/claim", body, new(any)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

func or(name, value string) string {
	if set := os.Getenv(name); set != "" {
		return set
	}
	return value
}

func min(a, b time.Duration) time.Duration {
	if a < b {
		return a
	}
	return b
}
