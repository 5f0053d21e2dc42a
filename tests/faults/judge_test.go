package faults

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"

	"mcpserver-operator/tests/cluster"
	"mcpserver-operator/tests/scale"
)

// step is a period that ends with a version of the StatefulSet. It contains what may happen in this period.
type step struct {
	until int64
	done  []string // the actions of the actor
	// allowed are the scales that the StatefulSet may have.
	allowed []int32
	// The operator may set each number in declared once, and each number in forced any number of times.
	declared, forced []int32
}

func (s *step) allow(replicas int32) {
	if !slices.Contains(s.allowed, replicas) {
		s.allowed = append(s.allowed, replicas)
	}
}

// setVersion is a version of a StatefulSet, as a witness reports it.
type setVersion struct {
	name       string
	at         int64 // its resourceVersion
	generation int64 // 0 if unknown
	replicas   int32
	witness    string
	byOperator bool // a write of the operator made this version
	created    bool
	set        *appsv1.StatefulSet // nil if unknown
}

func versionOf(set *appsv1.StatefulSet, witness string) setVersion {
	return setVersion{name: set.Name, at: version(set), generation: set.Generation, replicas: *set.Spec.Replicas, witness: witness, set: set}
}

// merge adds the report of another witness about the same version.
func (v setVersion) merge(other setVersion) setVersion {
	v.generation = max(v.generation, other.generation)
	v.byOperator, v.created, v.set = v.byOperator || other.byOperator, v.created || other.created, cmp.Or(v.set, other.set)
	return v
}

// judge compares each new version of the StatefulSets with what was allowed, and returns the number of versions. It has two witnesses. The watch
// misses versions while it is interrupted. The audit log misses requests that the API server could not log before it was killed.
func (s *storm) judge(t *testing.T) (versions int) {
	t.Helper()
	for _, a := range s.actors {
		eventually(t, "the watch to be up to date", func(ctx context.Context) (string, bool) {
			live, err := a.look(ctx)
			return fmt.Sprint(live, err), err == nil && s.history.newest(a.requests.Key.Name) >= version(live.set)
		})
	}
	seen := map[string]map[int64]setVersion{}
	for _, v := range append(s.history.next(), s.loggedVersions(t)...) {
		if seen[v.name] == nil {
			seen[v.name] = map[int64]setVersion{}
		}
		if of, found := seen[v.name][v.at]; found {
			v = of.merge(v)
		}
		seen[v.name][v.at] = v
	}
	for _, a := range s.actors {
		name := a.requests.Key.Name
		for _, at := range slices.Sorted(maps.Keys(seen[name])) {
			now, before := seen[name][at], s.judged[name]
			if err := a.judge(now); err != nil {
				t.Error(err)
			}
			if err := a.judgeOperator(before, now); err != nil {
				t.Error(err)
			}
			s.judged[name] = now
			if now.set != nil {
				a.versions = append(a.versions, now.set)
			}
		}
		if rollouts, most := scale.Rollouts(a.versions), int(a.rollouts.Load()); rollouts > most {
			t.Errorf("the pod template of %s has changed %d times, allowed were %d", name, rollouts, most)
		}
		versions += len(seen[name])
	}
	return versions
}

// loggedVersions returns the versions of the StatefulSets in the audit log since its last call.
func (s *storm) loggedVersions(t *testing.T) (versions []setVersion) {
	t.Helper()
	requests, err := theCluster.RequestsSince(s.mark, "")
	must(t, err)
	s.mark, err = theCluster.AuditMark()
	must(t, err)
	for _, r := range requests {
		if r.Namespace != s.namespace || r.Resource != "statefulsets" || r.Replicas == nil || r.Code >= 300 {
			continue
		}
		at, err := strconv.ParseInt(r.Version, 10, 64)
		must(t, err)
		versions = append(versions, setVersion{
			name: r.Name, at: at, generation: r.Generation, replicas: *r.Replicas, witness: "audit log",
			byOperator: r.User == cluster.OperatorUser, created: r.Code == 201,
		})
	}
	return versions
}

// stepAt returns the step of a version.
func (a *actor) stepAt(at int64) *step {
	i, _ := slices.BinarySearchFunc(a.steps, at, func(s step, at int64) int { return int(s.until - at) })
	if i < len(a.steps) {
		return &a.steps[i]
	}
	return &a.now
}

// judge fails if the scale of a version was not allowed at that time.
func (a *actor) judge(v setVersion) error {
	if now := a.stepAt(v.at); !slices.Contains(now.allowed, v.replicas) {
		return fmt.Errorf("%s was at %d in version %d (witness: %s); allowed were %v during %s",
			v.name, v.replicas, v.at, v.witness, now.allowed, strings.Join(now.done, ", "))
	}
	return nil
}

// judgeOperator fails if the operator has changed the scale of a StatefulSet to a number that was not declared at that time. It requires
// consecutive generations: otherwise, a version is missing in between that may have changed the scale.
func (a *actor) judgeOperator(before, v setVersion) error {
	if !v.byOperator || v.created || v.replicas == before.replicas || v.generation != before.generation+1 {
		return nil
	}
	now := a.stepAt(v.at)
	if i := slices.Index(now.declared, v.replicas); i >= 0 {
		now.declared = slices.Delete(now.declared, i, i+1)
		return nil
	}
	if slices.Contains(now.forced, v.replicas) {
		return nil
	}
	return fmt.Errorf("the operator has changed the scale of %s from %d to %d in version %d; declared were %v, under Force %v, during %s",
		v.name, before.replicas, v.replicas, v.at, now.declared, now.forced, strings.Join(now.done, ", "))
}

// TestWhatTheJudgeSaysOfTheOperator verifies that the operator may change the scale once for each declaration, and any number of times to a
// number that is declared under Force. judgeOperator does not judge the creation of a StatefulSet.
func TestWhatTheJudgeSaysOfTheOperator(t *testing.T) {
	before := setVersion{name: "web", at: 10, generation: 4, replicas: 3}
	write := func(change func(*setVersion)) setVersion {
		v := setVersion{name: "web", at: 11, generation: 5, replicas: 2, byOperator: true}
		change(&v)
		return v
	}
	unchanged := func(*setVersion) {}
	for _, row := range []struct {
		name  string
		step  step
		write setVersion
		wrong bool
	}{
		{"the number is not declared", step{declared: []int32{3}}, write(unchanged), true},
		{"the number is declared", step{declared: []int32{2}}, write(unchanged), false},
		{"the number is declared under Force", step{forced: []int32{2}}, write(unchanged), false},
		{"another client wrote it", step{}, write(func(v *setVersion) { v.byOperator = false }), false},
		{"the scale does not change", step{}, write(func(v *setVersion) { v.replicas = 3 }), false},
		{"the StatefulSet is new", step{}, write(func(v *setVersion) { v.created = true }), false},
		{"a version is missing in between", step{}, write(func(v *setVersion) { v.generation = 6 }), false},
	} {
		a := &actor{now: row.step}
		if err := a.judgeOperator(before, row.write); (err != nil) != row.wrong {
			t.Errorf("%s: %v", row.name, err)
		}
	}
	once := &actor{now: step{declared: []int32{2}}}
	if first, second := once.judgeOperator(before, write(unchanged)), once.judgeOperator(before, write(unchanged)); first != nil || second == nil {
		t.Errorf("a declaration must count once: %v, %v", first, second)
	}
}
