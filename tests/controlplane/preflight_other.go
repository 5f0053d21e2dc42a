//go:build !linux

package controlplane

import "errors"

func tryNamespaces() error { return errors.New("this is not Linux") }
