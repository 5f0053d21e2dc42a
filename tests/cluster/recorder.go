package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"mcpserver-operator/reconcile/ownership"
)

// Recorder records every scale that a StatefulSet had, and every owner of that scale. It uses a watch, so that it also records
// states that last only for an instant.
type Recorder struct {
	cluster *Cluster
	key     client.ObjectKey
	watch   watch.Interface
	done    chan struct{}

	mutex    sync.Mutex
	replicas []int32  // one entry per change, in order
	owners   []string // one entry per change, in order
	version  string   // the newest resourceVersion that the watch has returned
	deleted  bool
	err      error
}

// RecordScale starts to record the scale of a StatefulSet, beginning with the current state.
func (c *Cluster) RecordScale(ctx context.Context, key client.ObjectKey) (*Recorder, error) {
	w, err := c.Client.Watch(ctx, &appsv1.StatefulSetList{}, &client.ListOptions{
		Namespace: key.Namespace, FieldSelector: fields.OneTermEqualSelector(metav1.ObjectNameField, key.Name),
	})
	if err != nil {
		return nil, fmt.Errorf("watching StatefulSet %s: %w", key, err)
	}
	r := &Recorder{cluster: c, key: key, watch: w, done: make(chan struct{})}
	go r.record()
	return r, nil
}

func (r *Recorder) record() {
	defer close(r.done)
	for event := range r.watch.ResultChan() {
		r.mutex.Lock()
		switch object := event.Object.(type) {
		case *appsv1.StatefulSet:
			r.version, r.deleted = object.ResourceVersion, event.Type == watch.Deleted
			if event.Type != watch.Deleted && (len(r.replicas) == 0 || r.replicas[len(r.replicas)-1] != *object.Spec.Replicas) {
				r.replicas = append(r.replicas, *object.Spec.Replicas)
			}
			if event.Type != watch.Deleted {
				r.recordOwners(object)
			}
		default:
			r.err = apierrors.FromObject(event.Object)
		}
		r.mutex.Unlock()
	}
}

func (r *Recorder) recordOwners(set *appsv1.StatefulSet) {
	owners, err := OwnersOfReplicas(set)
	if err != nil {
		r.err = err
		return
	}
	now := strings.Join(owners, " ")
	if len(r.owners) == 0 || r.owners[len(r.owners)-1] != now {
		r.owners = append(r.owners, now)
	}
}

// Owners returns the owners of the scale until Stop, in order, with one entry per change. An entry lists the field managers in the
// format of OwnersOfReplicas, separated by spaces. An empty entry means that nobody owned the scale.
func (r *Recorder) Owners() []string {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return slices.Clone(r.owners)
}

// OwnersOfReplicas returns the field managers that own spec.replicas of an object, sorted by name. The format is NAME/OPERATION or
// NAME/OPERATION/SUBRESOURCE.
func OwnersOfReplicas(object metav1.Object) ([]string, error) {
	owners, err := ownership.OwnersOf(object, fieldpath.MakePathOrDie("spec", "replicas"))
	if err != nil {
		return nil, fmt.Errorf("reading who owns spec.replicas of %q: %w", object.GetName(), err)
	}
	var names []string
	for _, owner := range owners {
		names = append(names, strings.TrimSuffix(fmt.Sprintf("%s/%s/%s", owner.Name, owner.Operation, owner.Subresource), "/"))
	}
	slices.Sort(names)
	return names, nil
}

// Stop waits until all changes so far are recorded, and stops. It returns the scales in order, with one entry per change.
func (r *Recorder) Stop(ctx context.Context) ([]int32, error) {
	defer func() {
		r.watch.Stop()
		<-r.done
	}()
	err := wait.PollUntilContextTimeout(ctx, pollInterval, operatorTimeout, true, func(ctx context.Context) (bool, error) {
		set := &appsv1.StatefulSet{}
		err := r.cluster.Client.Get(ctx, r.key, set)
		if client.IgnoreNotFound(err) != nil {
			return false, err
		}
		r.mutex.Lock()
		defer r.mutex.Unlock()
		if r.err != nil {
			return false, r.err
		}
		select {
		case <-r.done:
			return false, errors.New("the watch ended")
		default:
		}
		if apierrors.IsNotFound(err) {
			return r.deleted || r.version == "", nil
		}
		return r.version == set.ResourceVersion, nil
	})
	if err != nil {
		return nil, fmt.Errorf("recording the scale of StatefulSet %s: %w", r.key, err)
	}
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return slices.Clone(r.replicas), nil
}
