// Package calls calls a tool of an MCP server repeatedly over streamable HTTP with a go-sdk client, and reports the result of each call.
// The program in tests/images/client runs it in a pod. Tests parse its output.
package calls

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// InstanceHeader is the response header in which the server of tests/images/server returns the name of its pod.
const InstanceHeader = "X-Instance"

// maxText limits the length of tool responses and errors in the output.
const maxText = 1000

// Options select the calls.
type Options struct {
	// URL is the URL of the server, with its path.
	URL string
	// Tool is called with Arguments. If empty, each call lists the tools.
	Tool      string
	Arguments map[string]any
	// Count is the number of calls. If 0, calls continue until For has elapsed.
	Count int
	// For is the time after which calls stop. If 0, there is no limit.
	For time.Duration
	// Every is the time between the starts of two calls.
	Every time.Duration
	// Timeout limits each call, including the session that the call opens.
	Timeout time.Duration
	// Fresh opens a session and a connection for each call, so that a Service may route each call to a different pod. If false, the client
	// only opens a new session after a failure.
	Fresh bool
	// Keep keeps the session after a failure, so that all later calls fail if the session has ended. The client then also resumes streams
	// that broke off, as clients do by default.
	Keep bool
	// Unpooled opens a connection for each request, so that a Service may route each request of a session to a different pod.
	Unpooled bool
	// Sessions is the number of sessions that call at the same time. Defaults to 1. Count applies to each.
	Sessions int
	// Protocol is the protocol version that the client asks for. Defaults to the newest, which has no sessions if the server supports it.
	Protocol string
	// OpeningTool, if set, is called once in each new session, before the other calls. In its arguments and in Arguments, strings may contain
	// SessionPlaceholder.
	OpeningTool      string
	OpeningArguments map[string]any
}

// SessionPlaceholder stands for the number of the session in arguments.
const SessionPlaceholder = "$SESSION"

// Result is the output line of a call.
type Result struct {
	// Session is the number of the session, from 1, if there are several.
	Session      int       `json:"session,omitempty"`
	Call         int       `json:"call"`
	Start        time.Time `json:"start"`
	OK           bool      `json:"ok"`
	Milliseconds float64   `json:"milliseconds"`
	// Connected is true if the call opened a session.
	Connected bool `json:"connected,omitempty"`
	// Instance is the pod that responded, if the response contains it.
	Instance string `json:"instance,omitempty"`
	Text     string `json:"text,omitempty"`
	Error    string `json:"error,omitempty"`
}

// Summary is the last output line.
type Summary struct {
	Calls           int            `json:"calls"`
	Failed          int            `json:"failed"`
	Connections     int            `json:"connections"`
	MaxMilliseconds float64        `json:"maxMilliseconds"`
	Instances       map[string]int `json:"instances,omitempty"`
	// Server, Version, Protocol and Tools come from the last session.
	Server   string   `json:"server,omitempty"`
	Version  string   `json:"version,omitempty"`
	Protocol string   `json:"protocol,omitempty"`
	Tools    []string `json:"tools,omitempty"`
}

// Line is an output line: a result, or the summary at the end.
type Line struct {
	Result  *Result  `json:"result,omitempty"`
	Summary *Summary `json:"summary,omitempty"`
}

// Parse parses the output of Run. The output of a running client has no summary.
func Parse(output []byte) ([]Result, *Summary, error) {
	var results []Result
	var summary *Summary
	for text := range strings.Lines(string(output)) {
		if !strings.HasSuffix(text, "\n") {
			break // the line is still being written
		}
		var line Line
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			return nil, nil, fmt.Errorf("read the line %q of the client: %w", text, err)
		}
		if line.Result != nil {
			results = append(results, *line.Result)
		}
		if line.Summary != nil {
			summary = line.Summary
		}
	}
	return results, summary, nil
}

// Run makes the calls and writes a line of JSON for each. If the context ends, Run stops early without an error.
func Run(ctx context.Context, options Options, out io.Writer) (Summary, error) {
	if options.URL == "" {
		return Summary{}, errors.New("no URL to call")
	}
	if options.Count == 0 && options.For == 0 {
		return Summary{}, errors.New("the number of calls is unlimited: set a count or a duration")
	}
	if options.For > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, options.For)
		defer cancel()
	}
	output := &output{encoder: json.NewEncoder(out), summary: Summary{Instances: map[string]int{}}}
	var running sync.WaitGroup
	for session := range max(options.Sessions, 1) {
		running.Go(func() { newCaller(options, session+1, output).run(ctx) })
	}
	running.Wait()
	if output.err == nil {
		output.err = output.encoder.Encode(Line{Summary: &output.summary})
	}
	if output.err != nil {
		return output.summary, fmt.Errorf("write the output: %w", output.err)
	}
	return output.summary, nil
}

// output is the output of all callers.
type output struct {
	mutex   sync.Mutex
	encoder *json.Encoder
	summary Summary
	err     error
}

// add writes and counts a result. It returns false if the result cannot be written.
func (o *output) add(result Result) bool {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	o.summary.count(result)
	if o.err == nil {
		o.err = o.encoder.Encode(Line{Result: &result})
	}
	return o.err == nil
}

// connected counts a session, and remembers what the server says of itself.
func (o *output) connected(said *mcp.InitializeResult) {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	o.summary.Connections++
	o.summary.Protocol = said.ProtocolVersion
	if said.ServerInfo != nil {
		o.summary.Server, o.summary.Version = said.ServerInfo.Name, said.ServerInfo.Version
	}
}

func (o *output) setTools(tools []string) {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	o.summary.Tools = tools
}

// caller keeps the session between calls.
type caller struct {
	options   Options
	number    int
	output    *output
	client    *mcp.Client
	transport *http.Transport
	session   *mcp.ClientSession
	instance  atomic.Value // string: of the last response
}

func newCaller(options Options, number int, output *output) *caller {
	if options.Timeout == 0 {
		options.Timeout = 30 * time.Second
	}
	options.Arguments = filledIn(options.Arguments, number)
	options.OpeningArguments = filledIn(options.OpeningArguments, number)
	return &caller{
		options: options, number: number, output: output,
		client: mcp.NewClient(&mcp.Implementation{Name: "mcpserver-operator-tests", Version: "v1"}, nil),
		transport: &http.Transport{
			DialContext: (&net.Dialer{Timeout: options.Timeout}).DialContext,
			// This also limits the DELETE of a session whose server is gone. That request has no other deadline.
			ResponseHeaderTimeout: options.Timeout,
			DisableKeepAlives:     options.Unpooled,
		},
	}
}

// filledIn returns arguments for a session.
func filledIn(arguments map[string]any, number int) map[string]any {
	encoded, err := json.Marshal(arguments)
	if err != nil {
		return arguments // the call reports the error
	}
	var filled map[string]any
	if err := json.Unmarshal(bytes.ReplaceAll(encoded, []byte(SessionPlaceholder), []byte(strconv.Itoa(number))), &filled); err != nil {
		return arguments
	}
	return filled
}

// run makes the calls.
func (c *caller) run(ctx context.Context) {
	defer c.disconnect()
	tick := time.NewTicker(max(c.options.Every, 1))
	defer tick.Stop()
	for call := 1; (c.options.Count == 0 || call <= c.options.Count) && ctx.Err() == nil; call++ {
		// A call that has started is completed. The end of the time must not count as a failure of the server.
		if !c.output.add(c.call(context.WithoutCancel(ctx), call)) {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// RoundTrip records which instance responded.
func (c *caller) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := c.transport.RoundTrip(request)
	if err == nil {
		c.instance.Store(response.Header.Get(InstanceHeader))
	}
	return response, err
}

func (c *caller) call(ctx context.Context, number int) Result {
	ctx, cancel := context.WithTimeout(ctx, c.options.Timeout)
	defer cancel()
	c.instance.Store("")
	result := Result{Call: number, Start: time.Now(), Connected: c.session == nil}
	text, err := c.attempt(ctx)
	result.Milliseconds = math.Round(float64(time.Since(result.Start))/float64(time.Microsecond)) / 1000
	result.Instance = c.instance.Load().(string)
	result.OK, result.Text = err == nil, bounded(text)
	if err != nil {
		result.Error = bounded(err.Error())
	}
	if c.options.Sessions > 1 {
		result.Session = c.number
	}
	if (err != nil && !c.options.Keep) || c.options.Fresh {
		c.disconnect()
	}
	return result
}

func (c *caller) attempt(ctx context.Context) (string, error) {
	if c.session == nil {
		if err := c.connect(ctx); err != nil {
			return "", err
		}
	}
	if c.options.Tool == "" {
		tools, err := c.list(ctx)
		return strings.Join(tools, " "), err
	}
	return c.callTool(ctx, c.options.Tool, c.options.Arguments)
}

func (c *caller) callTool(ctx context.Context, tool string, arguments map[string]any) (string, error) {
	answer, err := c.session.CallTool(ctx, &mcp.CallToolParams{Name: tool, Arguments: arguments})
	if err != nil {
		return "", fmt.Errorf("call %s: %w", tool, err)
	}
	var texts []string
	for _, content := range answer.Content {
		if text, ok := content.(*mcp.TextContent); ok {
			texts = append(texts, text.Text)
		}
	}
	text := strings.Join(texts, "\n")
	if answer.IsError {
		return text, fmt.Errorf("call %s: the tool failed: %s", tool, text)
	}
	return text, nil
}

// connect opens a session, lists the tools, as clients do, and makes the opening call.
func (c *caller) connect(ctx context.Context) error {
	retries := -1 // no retries, so that failures are reported
	if c.options.Keep {
		retries = 0 // the default of the client
	}
	session, err := c.client.Connect(ctx, &mcp.StreamableClientTransport{
		Endpoint:   c.options.URL,
		HTTPClient: &http.Client{Transport: c},
		MaxRetries: retries,
		// A standalone stream would use another connection and is not needed for calls.
		DisableStandaloneSSE: true,
	}, &mcp.ClientSessionOptions{ProtocolVersion: c.options.Protocol})
	if err != nil {
		return fmt.Errorf("initialize: %w", err)
	}
	c.session = session
	c.output.connected(session.InitializeResult())
	if _, err := c.list(ctx); err != nil {
		return err
	}
	if c.options.OpeningTool != "" {
		_, err = c.callTool(ctx, c.options.OpeningTool, c.options.OpeningArguments)
	}
	return err
}

func (c *caller) list(ctx context.Context) ([]string, error) {
	var tools []string
	for tool, err := range c.session.Tools(ctx, nil) {
		if err != nil {
			return nil, fmt.Errorf("list the tools: %w", err)
		}
		tools = append(tools, tool.Name)
	}
	c.output.setTools(tools)
	return tools, nil
}

// disconnect closes the session, if there is one, and its connections.
func (c *caller) disconnect() {
	if c.session != nil {
		_ = c.session.Close() // the result already contains the error of a server that is gone
	}
	c.session = nil
	c.transport.CloseIdleConnections()
}

func (s *Summary) count(result Result) {
	s.Calls++
	if !result.OK {
		s.Failed++
	}
	s.MaxMilliseconds = max(s.MaxMilliseconds, result.Milliseconds)
	if result.Instance != "" {
		s.Instances[result.Instance]++
	}
}

func bounded(s string) string {
	if len(s) <= maxText {
		return s
	}
	return strings.ToValidUTF8(s[:maxText], "") + "…"
}
