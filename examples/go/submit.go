// Submits a task to workqueue, with nothing but Go's standard library, and prints its id.
//
//	go run submit.go QUEUE PAYLOAD        WORKQUEUE_URL=http://127.0.0.1:5000
//
// PAYLOAD is JSON, or else a text.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
)

func main() {
	if len(os.Args) != 3 {
		fail("usage: submit QUEUE PAYLOAD")
	}
	var payload any = os.Args[2]
	if json.Valid([]byte(os.Args[2])) {
		payload = json.RawMessage(os.Args[2])
	}
	body, err := json.Marshal(map[string]any{"queue": os.Args[1], "payload": payload})
	if err != nil {
		fail(err)
	}
	url := os.Getenv("WORKQUEUE_URL")
	if url == "" {
		url = "http://127.0.0.1:5000"
	}
	response, err := http.Post(url+"/api/v1/tasks", "application/json", bytes.NewReader(body))
	if err != nil {
		fail(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		fail(err)
	}
	if response.StatusCode >= 400 { // A problem document: its "detail" says in words what is wrong.
		fail(string(content))
	}
	var task struct{ ID string }
	if err := json.Unmarshal(content, &task); err != nil {
		fail(err)
	}
	fmt.Println(task.ID)
}

func fail(why any) {
	fmt.Fprintln(os.Stderr, why)
	os.Exit(1)
}
