package limits

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
)

func request(t *testing.T, headers ...string) *http.Request {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", http.NoBody)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return r
}

func TestOrigins(t *testing.T) {
	for origin, want := range map[string]bool{
		"": true, "http://localhost:3000": true, "http://127.0.0.1": true, "http://[::1]:80": true, "https://a.example": true, "https://A.example": true,
		"http://a.example": false, "https://evil.example": false, "http://localhost.evil.example": false, "null": false, "%": false,
	} {
		r := request(t)
		if origin != "" {
			r = request(t, "Origin", origin)
		}
		if got := (Limits{Origins: []string{"https://a.example"}}).AllowsOrigin(r); got != want {
			t.Errorf("%q: %t", origin, got)
		}
	}
	if !(Limits{Origins: []string{"*"}}).AllowsOrigin(request(t, "Origin", "https://evil.example")) {
		t.Error("* does not allow all")
	}
	if (Limits{}).AllowsOrigin(request(t, "Origin", "http://localhost", "Origin", "https://evil.example")) {
		t.Error("a second header is not checked")
	}
}

func TestAccept(t *testing.T) {
	for accept, want := range map[string]bool{
		"": true, "*/*": true, "application/json": false, "text/*;q=0.5": true, "application/json, Text/Event-Stream": true, "text/html": false,
	} {
		r := request(t)
		if accept != "" {
			r = request(t, "Accept", accept)
		}
		if got := Accepts(r, "text/event-stream"); got != want {
			t.Errorf("%q: %t", accept, got)
		}
	}
}

func TestThePreferenceOfTheClient(t *testing.T) {
	for accept, want := range map[string]bool{
		"": false, "application/json, text/event-stream": false, "text/event-stream, application/json": true, "text/event-stream": false,
	} {
		if got := PrefersStream(request(t, "Accept", accept)); got != want {
			t.Errorf("%q: %t", accept, got)
		}
	}
}

func TestABodyIsReadUpToTheLimit(t *testing.T) {
	for size, want := range map[int]error{0: nil, 511: nil, 512: nil, 99_999: nil, 100_000: nil, 100_001: ErrBodyTooLarge} {
		for _, hasLength := range []bool{true, false} {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(strings.Repeat("x", size)))
			if !hasLength {
				r.ContentLength = -1
			}
			body, err := Limits{Body: 100_000}.ReadBody(httptest.NewRecorder(), r)
			if !errors.Is(err, want) || (err == nil && len(body) != size) {
				t.Errorf("%d bytes: got %d, %v", size, len(body), err)
			}
		}
	}
}

func FuzzHeaders(f *testing.F) {
	f.Add("http://localhost:6274", "application/json, text/event-stream", "application/json; charset=utf-8")
	f.Add("https://attacker.example", "*/*;q=0.1", "text/plain")
	f.Add("null", ",;,", ";")
	f.Add("http://localhost.attacker.example", "text/*", "application/json;")
	f.Add("http://[::1]@attacker.example", "TEXT/EVENT-STREAM", "application/JSON")
	f.Fuzz(func(t *testing.T, origin, accept, kind string) {
		r := request(t, "Accept", accept, "Content-Type", kind)
		r.Header["Origin"] = []string{origin}
		_, _, _ = Accepts(r, "text/event-stream"), PrefersStream(r), IsJSON(r)
		if !(Limits{}).AllowsOrigin(r) {
			return
		}
		parsed, err := url.Parse(origin)
		if err != nil {
			t.Fatalf("%q is no URL, and is allowed", origin)
		}
		if ip, err := netip.ParseAddr(parsed.Hostname()); !strings.EqualFold(parsed.Hostname(), "localhost") && (err != nil || !ip.Unmap().IsLoopback()) {
			t.Errorf("the origin %q is allowed", origin)
		}
		r.Header["Origin"] = []string{origin, "https://attacker.example"}
		if (Limits{}).AllowsOrigin(r) {
			t.Errorf("a second origin is allowed besides %q", origin)
		}
	})
}
