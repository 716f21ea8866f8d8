package gateway

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/cloudwego/kitex/pkg/klog"
)

// RouteKitexLog sends what Kitex itself logs to log. At debug level that is everything; otherwise it is errors only, at
// most one a second, with a count of those left out: a hostile peer can make Kitex log once a frame. That a connection to
// an endpoint has ended is no error here: Kitex says so also when the pool has closed it, and the pool knows why it ended.
// The setting is the process's: a binary calls this once, before Start.
func RouteKitexLog(log *slog.Logger, debug bool) {
	if debug {
		klog.SetLevel(klog.LevelDebug)
	} else {
		klog.SetLevel(klog.LevelError)
	}
	klog.SetOutput(&kitexLog{log: log})
}

// endpointConnEnded is in the line in which Kitex says that a connection to an endpoint has ended.
var endpointConnEnded = []byte("grpc client loopyWriter.run returning")

type kitexLog struct {
	log *slog.Logger

	mu      sync.Mutex // guards the fields below
	last    time.Time
	leftOut int
}

// Write takes one line of Kitex's log.
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
