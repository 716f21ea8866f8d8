package handler

import (
	"time"
)

// Observer is told of every call but those to framegate's own services. Its methods run on the call's path, in any number of
// goroutines at once: they must neither block nor panic.
type Observer interface {
	// CallStarted is called once for each call, when its route and its endpoint are known or it is known that it has none. It
	// returns the EndObserver to tell of the call's end, or nil for none.
	CallStarted(r *Record) EndObserver
}

// EndObserver is told of the end of a call.
type EndObserver interface {
	// CallEnded is called exactly once for each call for which CallStarted returned this EndObserver, however the call ended,
	// when no goroutine works for the call any more.
	CallEnded(r *Record)
}

// maxObservers is how many observers a Proxy may have.
const maxObservers = 4

// observation is what a call keeps for its observers. It is owned by the handler's goroutine.
type observation struct {
	record  Record
	hearing []Observer // the proxy's observers when the call began
	enders  [maxObservers]EndObserver
	started bool
}

// start tells the observers that the call starts.
func (o *observation) start() {
	if o.started {
		return
	}
	o.started = true
	for i, observer := range o.hearing {
		o.enders[i] = observer.CallStarted(&o.record)
	}
}

// answerBegan sets Record.FirstByte, once.
func (o *observation) answerBegan() {
	if o.record.FirstByte == 0 {
		o.record.FirstByte = max(time.Since(o.record.Start), 1) // 0 means that the answer never began
	}
}

// observeEnd, deferred, tells the observers that the call has ended. No other goroutine works for the call any more.
func (c *call) observeEnd() {
	defer c.recoverPanic()
	c.observation.start() // for a call that ended before it had an endpoint
	r := &c.observation.record
	r.Duration = time.Since(r.Start)
	r.Endpoint = c.attempts.endpoint() // the attempts may have gone to several
	r.RequestMessages, r.RequestBytes = c.upload.frames.Messages, c.upload.frames.Bytes
	r.ResponseMessages, r.ResponseBytes = c.response.Messages, c.response.Bytes
	r.Attempts = c.attempts.count()
	if c.transformer != nil {
		r.Struct = c.transformer.Stats()
	}
	c.ending.mu.Lock() // a timer that fires too late may still call abort
	r.Code, r.Reason, r.Limit = c.ending.code, c.ending.reason, c.ending.limit
	c.ending.mu.Unlock()
	for _, e := range c.observation.enders {
		if e != nil {
			e.CallEnded(r)
		}
	}
}
