package stdio

import (
	"context"
	"errors"

	"mcpserver-operator/runner/rpc"
	"mcpserver-operator/runner/stream"
)

// Answer reads a stream to its end and returns the response.
func Answer(ctx context.Context, log *stream.Log) (rpc.Message, error) {
	reader := log.Attach(0)
	defer reader.Detach()
	for {
		events, isEnd, err := reader.Next(ctx)
		if err != nil {
			return rpc.Message{}, err
		}
		if len(events) == 0 && isEnd {
			return rpc.Message{}, errors.New("there is no response")
		}
		for _, event := range events {
			message, err := rpc.Parse(event.Data)
			if err == nil && message.Kind == rpc.Response {
				return message, nil
			}
		}
	}
}
