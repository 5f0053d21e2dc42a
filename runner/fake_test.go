package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// fakeVariable makes the test binary a stdio server with the behavior that it names.
const fakeVariable = "FAKE_SERVER"

func TestMain(m *testing.M) {
	if behavior, isFake := os.LookupEnv(fakeVariable); isFake {
		(&fake{behavior: behavior, waiting: map[string]chan json.RawMessage{}}).serve()
		return
	}
	// The storm has a fixed seed by default. The command line can override these values.
	for name, value := range map[string]string{"rapid.checks": "200", "rapid.seed": "20260101", "rapid.shrinktime": "30s", "rapid.nofailfile": "true"} {
		if err := flag.Set(name, value); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// fake is a stdio server. Its behavior is a list of words, see serve and begin; its tools are in call.
type fake struct {
	behavior string

	mutex       sync.Mutex
	calls       int
	memory      string
	version     string
	client      json.RawMessage
	initialized bool
	asked       int
	waiting     map[string]chan json.RawMessage
}

type fakeMessage struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result"`
}

func (f *fake) is(word string) bool { return strings.Contains(f.behavior, word) }

func (f *fake) write(format string, values ...any) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	fmt.Printf(format+"\n", values...)
}

func (f *fake) serve() {
	if f.is("dies") {
		fmt.Fprintln(os.Stderr, "I die")
		os.Exit(3)
	}
	if f.is("stubborn") {
		signal.Ignore(syscall.SIGTERM)
		defer func() { select {} }() // it ignores the end of its input
	}
	if f.is("garbage") {
		f.write("Welcome to the server!\n{\"not\": \"rpc\"}\n[]\n\x00\xff")
	}
	if f.is("slow-start") {
		time.Sleep(500 * time.Millisecond)
	}
	if f.is("slower-start") {
		time.Sleep(2 * time.Second)
		fmt.Fprintln(os.Stderr, "started")
	}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var message fakeMessage
		if err := json.Unmarshal(lines.Bytes(), &message); err != nil {
			continue
		}
		line := bytes.Clone(lines.Bytes())
		if message.Method == "initialize" || message.ID == nil {
			f.handle(message, line)
		} else {
			go f.handle(message, line)
		}
	}
}

func (f *fake) handle(message fakeMessage, line []byte) {
	switch message.Method {
	case "": // a response
		f.answered(message)
	case "initialize":
		var params struct {
			ProtocolVersion string          `json:"protocolVersion"`
			Capabilities    json.RawMessage `json:"capabilities"`
		}
		_ = json.Unmarshal(message.Params, &params)
		f.version, f.client = params.ProtocolVersion, params.Capabilities
		if f.is("refuses") {
			f.write(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32602,"message":"not you"}}`, message.ID)
			return
		}
		if f.is("silent") {
			return
		}
		f.write(`{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":%q,"capabilities":{},"serverInfo":{"name":"fake","version":"1"}}}`, message.ID, f.version)
	case "notifications/initialized":
		f.initialized = true
	case "notifications/cancelled":
		fmt.Fprintln(os.Stderr, "cancelled", string(message.Params))
	case "server/discover":
		if f.is("hangs-up") {
			os.Exit(1)
		}
		if f.is("ignores") {
			return
		}
		if !f.is("modern") {
			f.write(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"no such method"}}`, message.ID)
			return
		}
		f.write(`{"jsonrpc":"2.0","id":%s,"result":{"supportedVersions":["2026-07-28","2025-11-25"],"capabilities":{}}}`, message.ID)
	case "subscriptions/listen":
		f.write(`{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":%s}}}`, message.ID)
	case "tools/list":
		f.write(`{"jsonrpc":"2.0","id":%s,"result":{"tools":[{"name":"region","inputSchema":{"type":"object","properties":{"region":{"type":"string","x-mcp-header":"Region"}}}}]}}`,
			message.ID)
	case "tools/call":
		f.call(message, line)
	default:
		f.write(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"no such method"}}`, message.ID)
	}
}

func (f *fake) answered(message fakeMessage) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	if waiting := f.waiting[string(message.ID)]; waiting != nil {
		waiting <- message.Result
	}
}

func (f *fake) call(message fakeMessage, line []byte) {
	var params struct {
		Name      string                     `json:"name"`
		Arguments map[string]json.RawMessage `json:"arguments"`
		Meta      struct {
			Token json.RawMessage `json:"progressToken"`
		} `json:"_meta"`
	}
	_ = json.Unmarshal(message.Params, &params)
	f.mutex.Lock()
	f.calls++
	calls := f.calls
	f.mutex.Unlock()
	result := func(text string) {
		f.write(`{"jsonrpc":"2.0","id":%s,"result":{"content":[{"type":"text","text":%q}]}}`, message.ID, text)
	}
	switch params.Name {
	case "count":
		result(fmt.Sprint(calls))
	case "remember": // and say what was remembered before
		f.mutex.Lock()
		before := f.memory
		f.memory = string(params.Arguments["value"])
		f.mutex.Unlock()
		result(before)
	case "pid":
		result(fmt.Sprint(os.Getpid()))
	case "line":
		result(string(line))
	case "initialized":
		result(fmt.Sprint(f.version, " ", string(f.client), " ", f.initialized))
	case "progress":
		for range 2 {
			f.write(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,"progress":1}}`, params.Meta.Token)
		}
		result("done")
	case "log":
		f.write(`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"hello"}}`)
		result("done")
	case "changed":
		f.write(`{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`)
		result("done")
	case "ask":
		result(string(f.ask()))
	case "sleep":
		var wait time.Duration
		_ = json.Unmarshal(params.Arguments["ns"], &wait)
		time.Sleep(wait)
		result("slept")
	case "never":
		fmt.Fprintln(os.Stderr, "never")
	case "exit-with-open-output": // what holds it has left the process group and the environment
		child := exec.Command("/usr/bin/env", "-i", "/usr/bin/setsid", "/bin/sleep", "1") //nolint:noctx // it ends by itself
		child.Stdout = os.Stdout
		_ = child.Start()
		os.Exit(3)
	case "exit":
		os.Exit(3)
	case "garbage":
		f.write("this is a log line\n{\"half\":\n%s", strings.Repeat("x", 2<<20))
		result("done")
	case "fork":
		child := exec.Command("/bin/sh", "-c", "sleep 1000 & echo $!; wait") //nolint:noctx // the runner must end it
		out, _ := child.StdoutPipe()
		_ = child.Start()
		pid, _ := bufio.NewReader(out).ReadString('\n')
		result(strings.TrimSpace(pid))
	case "flood":
		var count int
		_ = json.Unmarshal(params.Arguments["count"], &count)
		for i := range count {
			f.write(`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"%d %s"}}`, i, strings.Repeat("x", 1000))
		}
		result("done")
	case "flood-stderr":
		for range 20000 {
			fmt.Fprintln(os.Stderr, strings.Repeat("e", 1000))
		}
		result("done")
	case "big":
		result(strings.Repeat("b", 3<<20))
	case "error":
		f.write(`{"jsonrpc":"2.0","id":%s,"result":{"isError":true,"content":[]}}`, message.ID)
	default:
		f.write(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32602,"message":"no such tool"}}`, message.ID)
	}
}

// ask asks the client and returns its answer.
func (f *fake) ask() json.RawMessage {
	f.mutex.Lock()
	f.asked++
	id := fmt.Sprintf(`"ask-%d"`, f.asked)
	waiting := make(chan json.RawMessage, 1)
	f.waiting[id] = waiting
	f.mutex.Unlock()
	f.write(`{"jsonrpc":"2.0","id":%s,"method":"sampling/createMessage","params":{}}`, id)
	return <-waiting
}
