package gateway

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/cloudwego/kitex/pkg/klog"
)

// RouteKitexLog sends the log of Kitex itself to log: everything if debug is set, otherwise only errors, at most one a second
// with a count of those left out, because a hostile peer can make Kitex log once a frame. The end of a connection to an
// endpoint does not count as an error: Kitex logs it also when the pool has closed the connection, and the pool logs why.
// The setting is global to the process: a binary calls this once, before Start.
func RouteKitexLog(log *slog.Logger, debug bool) {
	if debug {
		klog.SetLevel(klog.LevelDebug)
	} else {
		klog.SetLevel(klog.LevelError)
	}
	klog.SetOutput(&kitexLog{log: log})
}

// endpointConnEnded is part of the line that Kitex logs when a connection to an endpoint has ended.
var endpointConnEnded = []byte("grpc client loopyWriter.run returning")

type kitexLog struct {
	log *slog.Logger

	mu      sync.Mutex // guards the fields below
	last    time.Time
	leftOut int
}

// Write implements io.Writer. Kitex writes one line of its log a call.
func (k *kitexLog) Write(line []byte) (int, error) {
	if k.log.Enabled(context.Background(), slog.LevelDebug) {
		k.log.Debug("kitex", "message", string(bytes.TrimSpace(line)))
		return len(line), nil
	}
	if !bytes.Contains(line, []byte("[Error]")) || bytes.Contains(line, endpointConnEnded) {
		return len(line), nil
	}
	k.mu.Lock()
	now, leftOut := time.Now(), k.leftOut
	if now.Sub(k.last) < time.Second {
		k.leftOut++
		k.mu.Unlock()
		return len(line), nil
	}
	k.last, k.leftOut = now, 0
	k.mu.Unlock()
	k.log.Warn("kitex", "message", string(bytes.TrimSpace(line)), "left_out_before", leftOut)
	return len(line), nil
}
