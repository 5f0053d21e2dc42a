package faults

import (
	"fmt"
	"reflect"
	"slices"

	"mcpserver-operator/tests/scale"
)

// possible contains all possible states of the model. There can be more than one: the operator may or may not have acted before each action, and
// the API server may or may not have carried out a request without an answer.
type possible []scale.Model

// after returns the possible states after a change.
func (p possible) after(happens func(*scale.Model)) possible {
	var after possible
	for _, m := range p {
		happens(&m)
		after = after.or(possible{m})
	}
	return after
}

// acted returns the possible states after the operator has acted.
func (p possible) acted() possible { return p.after((*scale.Model).OperatorActs) }

// or returns the states that are in one of the two.
func (p possible) or(other possible) possible {
	either := slices.Clone(p)
	for _, m := range other {
		if !slices.ContainsFunc(either, func(have scale.Model) bool { return reflect.DeepEqual(have, m) }) {
			either = append(either, m)
		}
	}
	return either
}

// any reports whether at least one state meets a condition.
func (p possible) any(is func(scale.Model) bool) bool { return slices.ContainsFunc(p, is) }

func (p possible) String() string {
	var all []string
	for _, m := range p {
		all = append(all, m.String())
	}
	return fmt.Sprintf("%q", all)
}
