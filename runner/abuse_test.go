package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"mcpserver-operator/runner/legacy"
	"mcpserver-operator/runner/rpc"
	"mcpserver-operator/runner/waittest"
)

// leavesNothing checks that what use does leaves no process, goroutine or descriptor behind, after a first use that may create what stays.
func leavesNothing(t *testing.T, use func()) {
	t.Helper()
	use()
	count := func() (processes, goroutines, files int) {
		http.DefaultClient.CloseIdleConnections()
		return len(children(t)), runtime.NumGoroutine(), countDescriptors(t)
	}
	settle := func() (processes, goroutines, files int) {
		processes, goroutines, files = count()
		for steady := 0; steady < 20; {
			time.Sleep(20 * time.Millisecond)
			p, g, f := count()
			if p == processes && g == goroutines && f == files {
				steady++
			} else {
				processes, goroutines, files, steady = p, g, f, 0
			}
		}
		return processes, goroutines, files
	}
	processes, goroutines, files := settle()
	for range 3 {
		use()
	}
	waittest.Eventually(t, "that nothing is left behind", func() bool {
		p, g, f := settle()
		if p <= processes && g <= goroutines && f <= files {
			return true
		}
		t.Logf("processes %d → %d, goroutines %d → %d, descriptors %d → %d", processes, p, goroutines, g, files, f)
		return false
	})
}

// countDescriptors returns the number of open files of this process.
func countDescriptors(t *testing.T) int {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

func TestADeletedSessionLeavesNothingBehind(t *testing.T) {
	p := startPod(t, "")
	leavesNothing(t, func() {
		c := p.open(rpc.Polling)
		general := c.get()
		c.call("progress")
		c.delete()
		general.messages()
	})
}

func TestChildrenOfAServerEndWithTheSessionAlsoBehindAShell(t *testing.T) {
	p := startPod(t, "shell", "--spare-processes=0")
	leavesNothing(t, func() {
		c := p.open(rpc.Polling)
		child, server := c.call("fork"), c.call("pid")
		if isGone(child) || isGone(server) {
			t.Fatalf("the processes %s and %s are not there", child, server)
		}
		c.delete()
		waittest.Eventually(t, "the end of the processes", func() bool { return isGone(child) && isGone(server) })
	})
}

func TestAServerThatIgnoresTheEndOfItsInputAndSIGTERMIsKilled(t *testing.T) {
	p := startPod(t, "stubborn", "--spare-processes=0")
	leavesNothing(t, func() {
		c := p.open(rpc.Polling)
		pid := c.call("pid")
		c.delete()
		waittest.Eventually(t, "the end of the process", func() bool { return isGone(pid) })
	})
}

func TestAServerThatDiesAtStartGivesAClearError(t *testing.T) {
	p := startPod(t, "dies", "--spare-processes=0")
	leavesNothing(t, func() {
		a := p.send(http.MethodPost, p.url, initialize(rpc.Polling))
		if text := a.text(); a.status != http.StatusBadGateway || errorCode(text) != "-32000" || !strings.Contains(text, "exit status 3") {
			t.Errorf("status %d, %s", a.status, text)
		}
	})
	if a := p.send(http.MethodGet, p.management.URL+"/readyz", ""); a.status != http.StatusServiceUnavailable {
		t.Errorf("readyz: status %d", a.status)
	}
	if a := p.modern(modernBody("1", "tools/list", "")); a.status != http.StatusServiceUnavailable {
		t.Errorf("a request without a session: status %d", a.status)
	}
}

func TestAServerThatExitsDuringACallGivesAnErrorAndTheSessionGoesOn(t *testing.T) {
	p := startPod(t, "")
	leavesNothing(t, func() {
		c := p.open(rpc.Polling)
		general := c.get()
		if text := c.call("exit"); errorCode(text) != "-32000" || !strings.Contains(text, "exit status 3") {
			t.Errorf("got %s", text)
		}
		if got := c.call("initialized"); got != rpc.Polling+" "+everyCapability+" true" {
			t.Errorf("the new process was initialized with %s", got)
		}
		c.delete()
		general.messages()
	})
}

// The output of the process that has ended is read until nobody holds it open. The calls of its successor must not end with it.
func TestAProcessThatLeavesItsOutputOpenDoesNotDisturbItsSuccessor(t *testing.T) {
	c := startPod(t, "").open(rpc.Polling)
	pid := c.call("pid")
	go func() {
		_, _ = c.try(t.Context(), http.MethodPost, c.url, toolCall("1", "exit-with-open-output", "{}"), c.headers()...)
	}()
	waittest.Eventually(t, "another process", func() bool {
		now, err := strconv.Atoi(c.call("pid")) // else the process ends just then
		return err == nil && strconv.Itoa(now) != pid
	})
	if got := resultText(c.post(toolCall("2", "sleep", `{"ns":800000000}`)).last()); got != "slept" {
		t.Errorf("got %s", got)
	}
}

func TestAServerThatExitsDuringACallEndsTheSessionIfThatIsAskedFor(t *testing.T) {
	c := startPod(t, "", "--on-pod-loss=End").open(rpc.Polling)
	c.call("exit")
	if a := c.post(toolCall("1", "count", "{}")); a.status != http.StatusNotFound {
		t.Errorf("status %d", a.status)
	}
}

func TestLinesThatAreNoMessagesAreSkippedAndCounted(t *testing.T) {
	p := startPod(t, "garbage", "--spare-processes=0")
	sessions := 0
	leavesNothing(t, func() {
		c := p.open(rpc.Polling)
		if got := c.call("garbage"); got != "done" {
			t.Errorf("got %s", got)
		}
		c.delete()
		sessions++
	})
	// The process of a session writes four such lines when it starts and three during the call; one of these is too long. The process that the runner asks
	// for its versions writes four.
	want := fmt.Sprintf("mcp_runner_skipped_lines_total %d\n", 7*sessions+4)
	waittest.Eventually(t, "the count of skipped lines", func() bool { return strings.Contains(p.metricsText(), want) })
}

func (p *pod) metricsText() string {
	p.t.Helper()
	return p.send(http.MethodGet, p.management.URL+"/metrics", "").text()
}

func TestAServerThatFloodsItsOutputLosesNothingAndNeedsLittleMemory(t *testing.T) {
	p := startPod(t, "")
	leavesNothing(t, func() {
		c := p.open(rpc.Polling)
		a := c.post(toolCall("1", "flood", `{"count":20000}`))
		messages := 0
		var most uint64
		for event := a.event(); event != nil; event = a.event() {
			if messages++; messages%1000 == 0 {
				var memory runtime.MemStats
				runtime.ReadMemStats(&memory)
				most = max(most, memory.HeapInuse)
			}
		}
		if messages != 20002 { // with the first event and the response
			t.Errorf("%d messages", messages)
		}
		if most > 100<<20 {
			t.Errorf("%d MiB of memory were used", most>>20)
		}
		c.delete()
	})
}

func TestAServerThatFloodsItsErrorOutputAnswers(t *testing.T) {
	p := startPod(t, "")
	leavesNothing(t, func() {
		c := p.open(rpc.Polling)
		if got := c.call("flood-stderr"); got != "done" {
			t.Errorf("got %s", got)
		}
		c.delete()
	})
}

func TestAClientThatDoesNotReadIsDisconnectedAndTheServerGoesOn(t *testing.T) {
	p := startPod(t, "", "--write-timeout=300ms")
	leavesNothing(t, func() {
		c := p.open(rpc.Polling)
		a := c.post(toolCall("1", "flood", `{"count":20000}`)) // more than the buffers of the connection hold
		waittest.Eventually(t, "the answer to another request", func() bool { return c.call("count") == "2" })
		_ = a.body.Close()
		c.delete()
	})
}

func TestABodyOverTheLimitIsRefused(t *testing.T) {
	p := startPod(t, "", "--max-body-bytes=1000")
	c := p.open(rpc.Polling)
	body := toolCall("1", "count", `{"x":"`+strings.Repeat("x", 2000)+`"}`)
	leavesNothing(t, func() {
		a := c.post(body)
		if text := a.text(); a.status != http.StatusRequestEntityTooLarge || errorCode(text) != "-32600" {
			t.Errorf("status %d, %s", a.status, text)
		}
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.url, io.MultiReader(strings.NewReader(body))) // its length is not known
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("without a length: status %d", response.StatusCode)
		}
	})
}

func TestHeadersOverTheLimitAreRefused(t *testing.T) {
	p := startPod(t, "")
	bombs := map[string][]string{"one long header": {"X-Bomb", strings.Repeat("x", 100<<10)}}
	for i := range 10_000 {
		bombs["many headers"] = append(bombs["many headers"], fmt.Sprintf("X-Bomb-%d", i), "x")
	}
	leavesNothing(t, func() {
		for name, headers := range bombs {
			a := p.send(http.MethodPost, p.url, "{}", headers...)
			if _ = a.body.Close(); a.status != http.StatusRequestHeaderFieldsTooLarge {
				t.Errorf("%s: status %d", name, a.status)
			}
		}
	})
}

func TestAClientThatSendsSlowlyIsDisconnected(t *testing.T) {
	p := startPod(t, "", "--read-timeout=200ms")
	leavesNothing(t, func() {
		for name, head := range map[string]string{
			"header": "POST /mcp HTTP/1.1\r\nHost: x\r\nX-Slow: ",
			"body":   "POST /mcp HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
		} {
			connection, err := new(net.Dialer).DialContext(t.Context(), "tcp", p.clients.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(connection, head); err != nil {
				t.Fatal(err)
			}
			_ = connection.SetReadDeadline(time.Now().Add(10 * time.Second))
			if _, err := io.Copy(io.Discard, connection); err != nil {
				t.Errorf("%s: the connection is not closed: %v", name, err)
			}
			_ = connection.Close()
		}
	})
}

func TestAResponseOverTheLimitOfALineIsAnError(t *testing.T) {
	p := startPod(t, "modern") // lines have at most 1 MiB
	leavesNothing(t, func() {
		c := p.open(rpc.Polling)
		a := c.post(toolCall("9", "big", "{}"))
		if text := a.last(); errorCode(text) != "-32000" || !strings.Contains(text, `"id":9`) || !strings.Contains(text, "more than 1048576 bytes") {
			t.Errorf("got %.200s", text)
		}
		if got := c.call("count"); got != "2" {
			t.Errorf("the next call: %s", got)
		}
		c.delete()
		a = p.modern(modernCall(`"m"`, "big", "{}"))
		if text := a.last(); errorCode(text) != "-32000" || !strings.Contains(text, `"id":"m"`) {
			t.Errorf("without a session: %.200s", text)
		}
	})
}

// TestAFullPodSaysTryLater verifies that a pod without room refuses a session, and counts it, also if it has first looked for another pod.
func TestAFullPodSaysTryLater(t *testing.T) {
	for name, start := range map[string]func(t *testing.T) *pod{
		"alone":            func(t *testing.T) *pod { return startPod(t, "", "--max-sessions=2") },
		"of a StatefulSet": func(t *testing.T) *pod { return startPods(t, 1, "--max-sessions=2")[0] },
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t)
			first := p.open(rpc.Polling)
			p.open(rpc.Polling)
			a := p.send(http.MethodPost, p.url, initialize(rpc.Polling))
			if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
				t.Errorf("status %d, Retry-After %q", a.status, a.header.Get("Retry-After"))
			}
			if text := p.metricsText(); !strings.Contains(text, "\nmcp_runner_sessions_refused_total 1\n") {
				t.Error("the session that was refused is not counted")
			}
			first.delete()
			p.open(rpc.Polling)
		})
	}
}

func TestManyClientsAtOnceGetNoMoreSessionsThanThereMayBe(t *testing.T) {
	p := startPod(t, "slow-start", "--max-sessions=3")
	var clients sync.WaitGroup
	statuses := make(chan int, 20)
	for range 20 {
		clients.Go(func() {
			a := p.send(http.MethodPost, p.url, initialize(rpc.Polling))
			a.text()
			statuses <- a.status
		})
	}
	clients.Wait()
	close(statuses)
	count := map[int]int{}
	for status := range statuses {
		count[status]++
	}
	if count[http.StatusOK] != 3 || count[http.StatusServiceUnavailable] != 17 {
		t.Errorf("statuses %v", count)
	}
}

func TestAClientThatLeavesDuringInitializeLeavesNothingBehind(t *testing.T) {
	p := startPod(t, "silent", "--spare-processes=0", "--start-timeout=1s")
	leavesNothing(t, func() {
		client := http.Client{Timeout: 100 * time.Millisecond}
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.url, strings.NewReader(initialize(rpc.Polling)))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		if response, err := client.Do(request); err == nil {
			_ = response.Body.Close()
			t.Errorf("status %d", response.StatusCode)
		}
		client.CloseIdleConnections()
		waittest.Eventually(t, "the end of the session", func() bool { open, _, _ := p.server.Load(); return open == 0 })
	})
}

func TestALargeResponseIsDelivered(t *testing.T) {
	c := startPod(t, "", "--max-line-bytes=8388608").open(rpc.Polling)
	if got := c.call("big"); len(got) != 3<<20 {
		t.Errorf("%d bytes", len(got))
	}
}

func TestAnUnknownSessionIDGivesNoMoreThanInitialize(t *testing.T) {
	p := startPod(t, "", "--max-sessions=1")
	p.open(rpc.Polling)
	for _, id := range []string{strings.Repeat("a", 1000), "../../x", "a b", fmt.Sprint(1)} {
		if a := p.send(http.MethodPost, p.url, toolCall("1", "count", "{}"), legacy.SessionHeader, id); a.status != http.StatusNotFound {
			t.Errorf("%q: status %d", id, a.status)
		}
	}
}
