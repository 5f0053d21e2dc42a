package faults

import (
	"fmt"
	"reflect"
	"slices"

	"mcpserver-operator/tests/scale"
)

// possible is everything that may be the case. An operator at work may have acted or not before anything that happens,
// and a request that was not answered may have been carried out or not.
type possible []scale.Model

// after is what is possible after something that happens.
func (p possible) after(happens func(*scale.Model)) possible {
	var after possible
	for _, m := range p {
		happens(&m)
		after = after.or(possible{m})
	}
	return after
}

// acted is what is possible once the operator has acted.
func (p possible) acted() possible { return p.after((*scale.Model).OperatorActs) }

// or is what is possible in either case.
func (p possible) or(other possible) possible {
	either := slices.Clone(p)
	for _, m := range other {
		if !slices.ContainsFunc(either, func(have scale.Model) bool { return reflect.DeepEqual(have, m) }) {
			either = append(either, m)
		}
	}
	return either
}

// any reports whether something is possible.
func (p possible) any(is func(scale.Model) bool) bool { return slices.ContainsFunc(p, is) }

func (p possible) String() string {
	var all []string
	for _, m := range p {
		all = append(all, m.String())
	}
	return fmt.Sprintf("%q", all)
}
