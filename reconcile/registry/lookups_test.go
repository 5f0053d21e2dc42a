package registry_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mcpserver-operator/reconcile/registry"
)

const app = "registry.example/app:v1"

// fakeRegistry is the read function and the changed callback of Lookups.
type fakeRegistry struct {
	// answer is what a look-up returns.
	answer func(image string) (registry.Image, error)
	// If held, a look-up first receives from hold, which start makes.
	held bool
	hold chan struct{}

	mutex   sync.Mutex
	reads   []string
	changed []string
	running int
	most    int
}

func (f *fakeRegistry) read(ctx context.Context, image string) (registry.Image, error) {
	f.mutex.Lock()
	f.reads = append(f.reads, image)
	f.running++
	f.most = max(f.most, f.running)
	f.mutex.Unlock()
	defer func() {
		f.mutex.Lock()
		defer f.mutex.Unlock()
		f.running--
	}()
	if f.hold != nil {
		select {
		case <-f.hold:
		case <-ctx.Done():
			return registry.Image{}, ctx.Err()
		}
	}
	if f.answer == nil {
		return imageOf(image), nil
	}
	return f.answer(image)
}

func (f *fakeRegistry) notify(image string) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	f.changed = append(f.changed, image)
}

// counts returns how many look-ups were started and how many callbacks were made, after everything came to rest.
func (f *fakeRegistry) counts() (reads, changed int) {
	synctest.Wait()
	f.mutex.Lock()
	defer f.mutex.Unlock()
	return len(f.reads), len(f.changed)
}

func imageOf(image string) registry.Image {
	return registry.Image{Reference: image, Digest: "sha256:" + image, Entrypoint: []string{"/" + image}}
}

// start runs Lookups in a bubble until the test function returns. The bubble fails if a goroutine is left.
func start(t *testing.T, limits registry.Limits, fake *fakeRegistry, test func(t *testing.T, lookups *registry.Lookups)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		if fake.held {
			fake.hold = make(chan struct{}) // a channel of the bubble
		}
		ctx, cancel := context.WithCancel(t.Context())
		lookups := registry.NewLookups(fake.read, fake.notify, limits)
		ended := make(chan error)
		go func() { ended <- lookups.Start(ctx) }()
		test(t, lookups)
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Start returned %v", err)
		}
		if fake.running != 0 {
			t.Errorf("Start returned while %d look-ups run", fake.running)
		}
	})
}

// ask calls Get for its effect only.
func ask(lookups *registry.Lookups, image string) { _, _, _ = lookups.Get(image) }

func expectKnown(t *testing.T, lookups *registry.Lookups, image string) {
	t.Helper()
	found, known, err := lookups.Get(image)
	if !known || err != nil || !reflect.DeepEqual(found, imageOf(image)) {
		t.Errorf("Get(%s) = %v, %t, %v, want the image", image, found, known, err)
	}
}

func expectPending(t *testing.T, lookups *registry.Lookups, image string) {
	t.Helper()
	if found, known, err := lookups.Get(image); known || err != nil {
		t.Errorf("Get(%s) = %v, %t, %v, want that it is not known yet", image, found, known, err)
	}
}

func expectFailed(t *testing.T, lookups *registry.Lookups, image string, kind error) {
	t.Helper()
	if _, known, err := lookups.Get(image); !known || !errors.Is(err, kind) {
		t.Errorf("Get(%s) is known: %t, with the error %v, want the error %v", image, known, err, kind)
	}
}

func expectReads(t *testing.T, fake *fakeRegistry, want int) {
	t.Helper()
	if reads, _ := fake.counts(); reads != want {
		t.Errorf("%d look-ups were started, want %d", reads, want)
	}
}

// Get never waits: the callback says that there is a result.
func TestLookupInBackground(t *testing.T) {
	fake := &fakeRegistry{held: true}
	start(t, registry.Limits{}, fake, func(t *testing.T, lookups *registry.Lookups) {
		expectPending(t, lookups, app)
		if _, changed := fake.counts(); changed != 0 {
			t.Error("the callback was called before there was a result")
		}
		expectPending(t, lookups, app)
		fake.hold <- struct{}{}
		if _, changed := fake.counts(); changed != 1 || fake.changed[0] != app {
			t.Errorf("the callback was called for %q, want %s", fake.changed, app)
		}
		expectKnown(t, lookups, app)
		expectReads(t, fake, 1)
	})
}

func TestOneLookupForManyGets(t *testing.T) {
	fake := &fakeRegistry{held: true}
	start(t, registry.Limits{}, fake, func(t *testing.T, lookups *registry.Lookups) {
		var gets sync.WaitGroup
		for range 100 {
			gets.Go(func() { ask(lookups, app) })
		}
		gets.Wait()
		expectReads(t, fake, 1)
		fake.hold <- struct{}{}
		synctest.Wait()
		for range 100 {
			gets.Go(func() { ask(lookups, app) })
		}
		gets.Wait()
		expectReads(t, fake, 1)
	})
}

func TestLimitsOfLookups(t *testing.T) {
	fake := &fakeRegistry{held: true}
	start(t, registry.Limits{Concurrent: 2, Waiting: 3}, fake, func(t *testing.T, lookups *registry.Lookups) {
		var asked []string
		get := func() (known bool, err error) {
			image := fmt.Sprintf("registry.example/app:%d", len(asked))
			asked = append(asked, image)
			_, known, err = lookups.Get(image)
			synctest.Wait()
			return known, err
		}
		for range 2 + 3 {
			if known, err := get(); known || err != nil {
				t.Errorf("Get is known: %t, with the error %v, want that the image waits", known, err)
			}
		}
		if known, err := get(); known || !errors.Is(err, registry.ErrUnavailable) {
			t.Errorf("with a full queue, Get is known: %t, with the error %v, want %v", known, err, registry.ErrUnavailable)
		}
		expectReads(t, fake, 2)
		for range 5 {
			fake.hold <- struct{}{}
			synctest.Wait()
		}
		if fake.most != 2 {
			t.Errorf("%d look-ups ran at the same time, want 2", fake.most)
		}
		if !slices.Equal(fake.reads, asked[:5]) {
			t.Errorf("looked up %q, want those of %q that found a place, in their order", fake.reads, asked)
		}
		expectPending(t, lookups, asked[5]) // there is room again
		fake.hold <- struct{}{}
		synctest.Wait()
		expectKnown(t, lookups, asked[5])
	})
}

// A result that was not asked for recently is looked up again. Failures are forgotten in the same way.
func TestRememberedIsLimited(t *testing.T) {
	fake := &fakeRegistry{}
	start(t, registry.Limits{Remembered: 2}, fake, func(t *testing.T, lookups *registry.Lookups) {
		for _, image := range []string{"a", "b", "c"} {
			expectPending(t, lookups, image)
			synctest.Wait()
		}
		expectKnown(t, lookups, "b")
		expectKnown(t, lookups, "c")
		expectPending(t, lookups, "a")
		expectReads(t, fake, 4)
	})
}

func TestRetries(t *testing.T) {
	unavailable := append([]time.Duration{10 * time.Second, 20 * time.Second, 40 * time.Second, 80 * time.Second, 160 * time.Second, 320 * time.Second},
		slices.Repeat([]time.Duration{10 * time.Minute}, 70)...) // more than a Duration can double
	for name, test := range map[string]struct {
		err   error
		waits []time.Duration
	}{
		"unavailable":           {registry.ErrUnavailable, unavailable},
		"error of another kind": {errors.New("broken"), unavailable},
		"not found":             {registry.ErrNotFound, []time.Duration{5 * time.Minute, 5 * time.Minute}},
		"unauthorized":          {registry.ErrUnauthorized, []time.Duration{5 * time.Minute, 5 * time.Minute}},
		"invalid":               {registry.ErrInvalid, []time.Duration{30 * time.Minute, 30 * time.Minute}},
	} {
		t.Run(name, func(t *testing.T) {
			fake := &fakeRegistry{answer: func(string) (registry.Image, error) {
				return registry.Image{}, fmt.Errorf("look-up: %w", test.err)
			}}
			start(t, registry.Limits{}, fake, func(t *testing.T, lookups *registry.Lookups) {
				expectPending(t, lookups, app)
				for i, wait := range test.waits {
					reads, changed := fake.counts()
					if reads != i+1 {
						t.Fatalf("%d look-ups before the wait of %s, want %d", reads, wait, i+1)
					}
					time.Sleep(wait - time.Nanosecond) // time of the bubble
					expectFailed(t, lookups, app, test.err)
					if r, c := fake.counts(); r != reads || c != changed {
						t.Fatalf("a retry or a callback came before %s", wait)
					}
					time.Sleep(time.Nanosecond)
					if r, c := fake.counts(); r != reads || c != changed+1 {
						t.Fatalf("%d callbacks and %d look-ups after %s, want one callback and no look-up that nobody asked for", c-changed, r-reads, wait)
					}
					expectFailed(t, lookups, app, test.err) // and starts a look-up
				}
				fake.counts()
				fake.answer = nil
				time.Sleep(time.Hour)
				expectFailed(t, lookups, app, test.err)
				synctest.Wait()
				expectKnown(t, lookups, app)
			})
		})
	}
}

// An answer of the registry, even a bad one, ends a series of failures.
func TestBackoffStartsAgain(t *testing.T) {
	var err error
	fake := &fakeRegistry{answer: func(string) (registry.Image, error) { return registry.Image{}, err }}
	start(t, registry.Limits{}, fake, func(t *testing.T, lookups *registry.Lookups) {
		for _, err = range []error{registry.ErrUnavailable, registry.ErrUnavailable, registry.ErrNotFound, registry.ErrUnavailable} {
			time.Sleep(time.Hour)
			ask(lookups, app)
			synctest.Wait()
		}
		time.Sleep(10 * time.Second)
		ask(lookups, app)
		expectReads(t, fake, 5)
	})
}

// A known failure stays known while there is no room for its retry.
func TestRetryWithoutRoom(t *testing.T) {
	fake := &fakeRegistry{answer: func(string) (registry.Image, error) { return registry.Image{}, registry.ErrNotFound }}
	start(t, registry.Limits{Concurrent: 1, Waiting: 1}, fake, func(t *testing.T, lookups *registry.Lookups) {
		ask(lookups, app)
		synctest.Wait()
		fake.hold = make(chan struct{})
		time.Sleep(5 * time.Minute)
		ask(lookups, "a")
		synctest.Wait()
		ask(lookups, "b")
		expectFailed(t, lookups, app, registry.ErrNotFound)
		reads, _ := fake.counts()
		close(fake.hold)
		_, changed := fake.counts()
		time.Sleep(10 * time.Second)
		if r, c := fake.counts(); r != reads+1 || c != changed+1 || fake.changed[c-1] != app {
			t.Errorf("the callback came for %q, want %s again", fake.changed[changed:], app)
		}
		expectFailed(t, lookups, app, registry.ErrNotFound)
		expectReads(t, fake, reads+2)
	})
}

// A tag can move. What it was before is then not returned any more.
func TestTagsAreLookedUpAgain(t *testing.T) {
	const byDigest = app + "@sha256:1"
	digest := "sha256:1"
	fake := &fakeRegistry{answer: func(string) (registry.Image, error) { return registry.Image{Digest: digest}, nil }}
	start(t, registry.Limits{}, fake, func(t *testing.T, lookups *registry.Lookups) {
		expect := func(image, want string) {
			t.Helper()
			synctest.Wait()
			if found, known, err := lookups.Get(image); !known || err != nil || found.Digest != want {
				t.Errorf("Get returns %s, known: %t, with the error %v, want %s", found.Digest, known, err, want)
			}
		}
		for _, image := range []string{app, byDigest} {
			expectPending(t, lookups, image)
			expect(image, "sha256:1")
		}
		digest = "sha256:2"
		time.Sleep(10*time.Second - time.Nanosecond)
		expect(app, "sha256:1")
		time.Sleep(time.Nanosecond)
		expectPending(t, lookups, app)
		expect(app, "sha256:2")
		time.Sleep(24 * time.Hour)
		expect(byDigest, "sha256:1")
		expectReads(t, fake, 3)
	})
}

// Start interrupts look-ups at its end. They have no result, and there is no callback after the end.
func TestEnd(t *testing.T) {
	fake := &fakeRegistry{answer: func(string) (registry.Image, error) { return registry.Image{}, registry.ErrUnavailable }}
	var lookups *registry.Lookups
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		lookups = registry.NewLookups(fake.read, fake.notify, registry.Limits{Concurrent: 1})
		expectPending(t, lookups, app) // before the start
		ended := make(chan error)
		go func() { ended <- lookups.Start(ctx) }()
		_, changed := fake.counts()
		if changed != 1 {
			t.Fatalf("%d callbacks, want 1", changed)
		}
		fake.hold = make(chan struct{})
		expectPending(t, lookups, "running")
		synctest.Wait()
		expectPending(t, lookups, "waiting")
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Start returned %v", err)
		}
		time.Sleep(time.Hour) // past the retry
		if reads, after := fake.counts(); after != changed || reads != 2 {
			t.Errorf("callbacks for %q and look-ups of %q, want none after the end", fake.changed[changed:], fake.reads)
		}
		expectPending(t, lookups, "later")
	})
}

// A reference that is too long to be one costs neither memory nor a place in the queue.
func TestLongReference(t *testing.T) {
	fake := &fakeRegistry{}
	start(t, registry.Limits{}, fake, func(t *testing.T, lookups *registry.Lookups) {
		expectFailed(t, lookups, strings.Repeat("a", 1025), registry.ErrInvalid)
		expectReads(t, fake, 0)
	})
}

// Reader.Read and Lookups fit together.
func TestLookupsOfReader(t *testing.T) {
	server := newServer(t)
	digest := server.push(t, reference, runs(t, "/server"))
	server.forget()
	changed := make(chan string, 1)
	lookups := registry.NewLookups(server.reader().Read, func(image string) { changed <- image }, registry.Limits{})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- lookups.Start(ctx) }()
	for range 10 {
		ask(lookups, reference)
	}
	if got := <-changed; got != reference {
		t.Errorf("the callback was called for %s", got)
	}
	found, known, err := lookups.Get(reference)
	if want := (registry.Image{Reference: reference, Digest: digest, Entrypoint: []string{"/server"}}); !known || err != nil || !reflect.DeepEqual(found, want) {
		t.Errorf("Get returns %v, known: %t, with the error %v, want %v", found, known, err, want)
	}
	if got := server.seen("GET " + manifests); got != 1 {
		t.Errorf("%d requests for the manifest, want 1", got)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Start returned %v", err)
	}
}
