package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"math"
	"os"
	"sync/atomic"
	"time"
)

// first creates the file and reports whether it did not exist before. Without a file it always returns true.
func first(file string) (bool, error) {
	if file == "" {
		return true, nil
	}
	created, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("make the file of -once: %w", err)
	}
	return true, created.Close()
}

// exit ends the process and writes the reason where the kubelet reads it.
func exit(terminationLog, message string, code int) {
	if message != "" {
		if err := os.WriteFile(terminationLog, []byte(message), 0o644); err != nil {
			log.Printf("write the termination message: %v", err)
		}
	}
	log.Printf("exiting with %d: %s", code, message)
	os.Exit(code)
}

// held keeps the memory that allocate takes.
var held [][]byte

// allocate takes memory and keeps it. It takes one MiB at a time, so that the process is killed as soon as it exceeds its limit.
func allocate(mebibytes int) {
	log.Printf("allocating %d MiB", mebibytes)
	for range mebibytes {
		block := make([]byte, 1<<20)
		for i := 0; i < len(block); i += 4096 {
			block[i] = 1 // the kernel only provides pages that are written to
		}
		held = append(held, block)
	}
}

// burner uses a share of a CPU.
type burner struct {
	share atomic.Uint64 // the bits of a float64
}

func (b *burner) set(share float64) {
	b.share.Store(math.Float64bits(min(max(share, 0), 1)))
}

// run computes for a share of each period and sleeps for the rest.
func (b *burner) run(ctx context.Context) {
	const period = 100 * time.Millisecond
	for ctx.Err() == nil {
		start := time.Now()
		for busy := time.Duration(float64(period) * math.Float64frombits(b.share.Load())); time.Since(start) < busy; {
		}
		select {
		case <-ctx.Done():
		case <-time.After(period - time.Since(start)):
		}
	}
}
