package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

type none struct{}

type identity struct {
	Hostname string `json:"hostname"`
	UID      int    `json:"uid"`
	GID      int    `json:"gid"`
	Groups   []int  `json:"groups"`
}

type burnInput struct {
	Share float64 `json:"share" jsonschema:"how much of a CPU, from 0 to 1"`
}

type allocateInput struct {
	Mebibytes int `json:"mebibytes"`
}

type sleepInput struct {
	Milliseconds int `json:"milliseconds"`
}

type exitInput struct {
	Code    int    `json:"code"`
	Message string `json:"message,omitempty"`
}

type variable struct {
	Name string `json:"name"`
}

type value struct {
	Value string `json:"value"`
}

type key struct {
	Key string `json:"key"`
}

type entry struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// newTools creates the MCP server. A tool returns its output as JSON.
func newTools(o options, burner *burner) (*mcp.Server, error) {
	server := mcp.NewServer(&mcp.Implementation{Name: "probe", Version: "v1"}, nil)
	mcp.AddTool(server, &mcp.Tool{Name: "whoami", Description: "Tells who the server runs as, and in which pod."}, whoami)
	mcp.AddTool(server, &mcp.Tool{Name: "environment", Description: "Tells the value of an environment variable."},
		func(_ context.Context, _ *mcp.CallToolRequest, in variable) (*mcp.CallToolResult, value, error) {
			return nil, value{os.Getenv(in.Name)}, nil
		})
	mcp.AddTool(server, &mcp.Tool{Name: "burn", Description: "Uses a share of a CPU from now on."},
		func(_ context.Context, _ *mcp.CallToolRequest, in burnInput) (*mcp.CallToolResult, none, error) {
			burner.set(in.Share)
			return nil, none{}, nil
		})
	mcp.AddTool(server, &mcp.Tool{Name: "allocate", Description: "Takes memory and keeps it."},
		func(_ context.Context, _ *mcp.CallToolRequest, in allocateInput) (*mcp.CallToolResult, none, error) {
			go allocate(in.Mebibytes)
			return nil, none{}, nil
		})
	mcp.AddTool(server, &mcp.Tool{Name: "sleep", Description: "Answers after a while."},
		func(ctx context.Context, _ *mcp.CallToolRequest, in sleepInput) (*mcp.CallToolResult, none, error) {
			log.Printf("sleeping for %d ms", in.Milliseconds)
			select {
			case <-time.After(time.Duration(in.Milliseconds) * time.Millisecond):
			case <-ctx.Done():
			}
			return nil, none{}, ctx.Err()
		})
	mcp.AddTool(server, &mcp.Tool{Name: "exit", Description: "Ends the process, after the answer."},
		func(_ context.Context, _ *mcp.CallToolRequest, in exitInput) (*mcp.CallToolResult, none, error) {
			time.AfterFunc(100*time.Millisecond, func() { exit(o.terminationLog, in.Message, in.Code) })
			return nil, none{}, nil
		})
	if o.data == "" {
		return server, nil
	}
	root, err := os.OpenRoot(o.data)
	if err != nil {
		return nil, fmt.Errorf("open the folder of -data: %w", err)
	}
	addStore(server, store{root})
	return server, nil
}

func whoami(context.Context, *mcp.CallToolRequest, none) (*mcp.CallToolResult, identity, error) {
	hostname, err := os.Hostname()
	if err != nil {
		return nil, identity{}, err
	}
	groups, err := os.Getgroups()
	if err != nil {
		return nil, identity{}, err
	}
	return nil, identity{Hostname: hostname, UID: os.Getuid(), GID: os.Getgid(), Groups: append([]int{}, groups...)}, nil
}

// store keeps each value in a file with the name of its key.
type store struct {
	root *os.Root
}

func addStore(server *mcp.Server, s store) {
	mcp.AddTool(server, &mcp.Tool{Name: "put", Description: "Keeps a value in a file."}, s.put)
	mcp.AddTool(server, &mcp.Tool{Name: "get", Description: "Reads a value from its file."}, s.get)
}

func (s store) put(_ context.Context, _ *mcp.CallToolRequest, in entry) (*mcp.CallToolResult, none, error) {
	if err := checkKey(in.Key); err != nil {
		return nil, none{}, err
	}
	return nil, none{}, s.root.WriteFile(in.Key, []byte(in.Value), 0o644)
}

func (s store) get(_ context.Context, _ *mcp.CallToolRequest, in key) (*mcp.CallToolResult, entry, error) {
	if err := checkKey(in.Key); err != nil {
		return nil, entry{}, err
	}
	value, err := s.root.ReadFile(in.Key)
	return nil, entry{Key: in.Key, Value: string(value)}, err
}

func checkKey(key string) error {
	if key == "" || filepath.Base(key) != key {
		return errors.New("a key is the name of a file, without a folder")
	}
	return nil
}
