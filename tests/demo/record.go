package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/tests/cluster"
	"mcpserver-operator/tests/demo/recording"
)

// recorder records a run of the demo.
type recorder struct {
	started time.Time
	watches []watch.Interface
	done    sync.WaitGroup

	mutex     sync.Mutex
	recording recording.Recording
	now       recording.Scale // the state that the watches have seen last
	stopped   bool            // a watch that is stopped may end with an error
	err       error
}

// seconds returns the time since the start of the run.
func (r *recorder) seconds() float64 { return math.Round(time.Since(r.started).Seconds()*100) / 100 }

// Write records a part of the output.
func (r *recorder) Write(text []byte) (int, error) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.recording.Output = append(r.recording.Output, recording.Output{At: r.seconds(), Text: string(text)})
	return len(text), nil
}

// act records a change that the demo makes.
func (r *recorder) act(what string) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.recording.Actions = append(r.recording.Actions, recording.Action{At: r.seconds(), What: what})
}

// watch starts to record the scale of the StatefulSet and its owner.
func (r *recorder) watch(ctx context.Context, c *cluster.Cluster) error {
	for _, list := range []client.ObjectList{&appsv1.StatefulSetList{}, &v1beta1.MCPServerList{}} {
		w, err := c.Client.Watch(ctx, list, client.InNamespace(namespace))
		if err != nil {
			return fmt.Errorf("watching the scale: %w", err)
		}
		r.watches = append(r.watches, w)
		r.done.Go(func() {
			for event := range w.ResultChan() {
				r.see(event)
			}
		})
	}
	return nil
}

// see records a change of the scale or its owner. There is no scale before both are known.
func (r *recorder) see(event watch.Event) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	next := r.now
	switch object := event.Object.(type) {
	case *appsv1.StatefulSet:
		next.Replicas = *object.Spec.Replicas
	case *v1beta1.MCPServer:
		if object.Status.Scale != nil {
			next.Owner = object.Status.Scale.Owner
		}
	default:
		if r.stopped {
			return
		}
		r.err = errors.Join(r.err, apierrors.FromObject(event.Object))
		return
	}
	if next == r.now {
		return
	}
	r.now = next
	if next.Replicas > 0 && next.Owner != "" {
		next.At = r.seconds()
		r.recording.Scale = append(r.recording.Scale, next)
	}
}

// write stops recording, and writes the recording to a folder.
func (r *recorder) write(folder, kubernetes, node string) error {
	r.mutex.Lock()
	r.stopped = true
	r.mutex.Unlock()
	for _, w := range r.watches {
		w.Stop()
	}
	r.done.Wait()
	r.recording.Kubernetes, r.recording.Node, r.recording.End = kubernetes, node, r.seconds()
	return errors.Join(r.err, r.recording.Write(folder))
}
