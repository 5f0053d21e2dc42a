package registry

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"k8s.io/utils/lru"
)

const (
	// minBackoff and maxBackoff limit the time after which a look-up is repeated that failed with ErrUnavailable. It doubles with each failure.
	minBackoff = 10 * time.Second
	maxBackoff = 10 * time.Minute
	// absentRetry is the time after which a look-up is repeated that failed with ErrNotFound or ErrUnauthorized.
	absentRetry = 5 * time.Minute
	// invalidRetry is the time after which a look-up is repeated that failed with ErrInvalid. Its owner can push another image under the same tag.
	invalidRetry = 30 * time.Minute
	// freshFor is the time after which a tag is looked up again, because it may have moved. It is just long
	// enough for many MCPServers of one image that are created together.
	freshFor = 10 * time.Second
)

// Limits limits Lookups. A value of 0 stands for the default.
type Limits struct {
	// Concurrent is the maximum number of look-ups at the same time. Defaults to 4.
	Concurrent int
	// Waiting is the maximum number of images that wait for a look-up. Defaults to 256.
	Waiting int
	// Remembered is the maximum number of results that are kept. Those asked for least recently are forgotten. Defaults to 1024.
	Remembered int
}

// Lookups looks up images in the background, for reconcilers, which must not wait. It remembers the results. All methods can be called at the
// same time.
type Lookups struct {
	read       func(context.Context, string) (Image, error)
	changed    func(image string)
	concurrent int
	waiting    chan string

	mutex sync.Mutex
	// pending are the images that wait or are looked up now.
	pending map[string]bool
	results *lru.Cache
	ended   bool
}

// result is what is remembered of an image.
type result struct {
	image Image
	err   error
	// failures is how many times in succession the look-up failed with ErrUnavailable.
	failures int
	// retry is the time from which the look-up can be repeated; zero if the reference has the digest, which does not move.
	retry time.Time
}

// NewLookups returns Lookups that read images with read, which usually is [Reader.Read]. It looks up nothing before Start.
//
// It calls changed each time when another Get of the image is useful: it has a result, or a failed look-up can be repeated. Lookups repeats a
// look-up only if Get is called, so that it asks for no image that nobody uses any more. The function must not block. It can be called for an
// image that is not used.
func NewLookups(read func(context.Context, string) (Image, error), changed func(image string), limits Limits) *Lookups {
	return &Lookups{
		read:       read,
		changed:    changed,
		concurrent: cmp.Or(limits.Concurrent, 4),
		waiting:    make(chan string, cmp.Or(limits.Waiting, 256)),
		pending:    map[string]bool{},
		results:    lru.New(cmp.Or(limits.Remembered, 1024)),
	}
}

// Start looks up images until the context ends. It returns when all look-ups have ended. It must be called once, and can be added to a manager.
func (l *Lookups) Start(ctx context.Context) error {
	var workers sync.WaitGroup
	for range l.concurrent {
		workers.Go(func() { l.work(ctx) })
	}
	workers.Wait()
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.ended = true
	return nil
}

// Get returns what is known of an image. It does not block.
//
//   - If known is true, the image has been looked up, and err says whether this failed. If a failed look-up can be repeated, Get repeats it in the
//     background, and returns the last error until it ends.
//   - If known is false and err is nil, the image is being looked up. This includes a tag that was looked up more than freshFor ago.
//   - If known is false and err is ErrUnavailable, too many images wait. This image is then not looked up, and changed is not called: the caller must
//     call Get again after some time.
func (l *Lookups) Get(image string) (found Image, known bool, err error) {
	if len(image) > maxReference { // is neither kept nor looked up
		_, err := parseReference(image)
		return Image{}, true, err
	}
	l.mutex.Lock()
	defer l.mutex.Unlock()
	last, known := l.result(image)
	if known && (last.retry.IsZero() || time.Now().Before(last.retry)) {
		return last.image, true, last.err
	}
	if known && last.err == nil {
		l.results.Remove(image)
		last, known = result{}, false
	}
	if !l.enqueue(image) {
		if !known {
			return Image{}, false, fail(ErrUnavailable, "too many images wait to be looked up")
		}
		l.retryAfter(image, last, minBackoff)
	}
	return last.image, known, last.err
}

// enqueue lets the image wait for a look-up, unless it already does. It returns false if too many images wait.
func (l *Lookups) enqueue(image string) bool {
	if l.pending[image] {
		return true
	}
	select {
	case l.waiting <- image:
		l.pending[image] = true
		return true
	default:
		return false
	}
}

// work looks up the images that wait, the first first.
func (l *Lookups) work(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case image := <-l.waiting:
			found, err := l.read(ctx, image)
			if ctx.Err() != nil {
				return
			}
			l.end(image, found, err)
			l.changed(image)
		}
	}
}

// end remembers the result of a look-up.
func (l *Lookups) end(image string, found Image, err error) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	delete(l.pending, image)
	next := result{image: found, err: err}
	if err == nil {
		if !strings.HasSuffix(image, "@"+found.Digest) {
			next.retry = time.Now().Add(freshFor)
		}
		l.results.Add(image, next)
		return
	}
	if isUnavailable(err) {
		last, _ := l.result(image)
		next.failures = last.failures + 1
	}
	l.retryAfter(image, next, retryDelay(err, next.failures))
}

// retryAfter remembers the result of an image whose look-up can be repeated after the delay.
func (l *Lookups) retryAfter(image string, of result, delay time.Duration) {
	of.retry = time.Now().Add(delay)
	l.results.Add(image, of)
	time.AfterFunc(delay, func() {
		l.mutex.Lock()
		ended := l.ended
		l.mutex.Unlock()
		if !ended {
			l.changed(image)
		}
	})
}

func (l *Lookups) result(image string) (found result, known bool) {
	value, known := l.results.Get(image)
	if known {
		found = value.(result)
	}
	return found, known
}

// retryDelay returns the time after which a look-up can be repeated. failures counts those with ErrUnavailable in succession, including this one.
func retryDelay(err error, failures int) time.Duration {
	switch {
	case errors.Is(err, ErrInvalid):
		return invalidRetry
	case errors.Is(err, ErrNotFound), errors.Is(err, ErrUnauthorized):
		return absentRetry
	}
	delay := minBackoff
	for range min(failures, 16) - 1 {
		delay *= 2
	}
	return min(delay, maxBackoff)
}

// isUnavailable reports whether an error is of the kind ErrUnavailable, which includes the errors of another package.
func isUnavailable(err error) bool {
	return !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrUnauthorized)
}
