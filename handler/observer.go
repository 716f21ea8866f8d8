package handler

import (
	"time"
)

// Observer hears of calls: of every call but those to framegate's own services. Its methods run on the call's path, in any
// number of goroutines at once: they must neither block nor panic.
type Observer interface {
	// CallStarted is called once a call, when it is known where it goes. It returns who hears of the call's end; nil
	// for nobody.
	CallStarted(r *Record) EndObserver
}

// EndObserver hears of the end of a call.
type EndObserver interface {
	// CallEnded is called exactly once for each call for which CallStarted returned it, when nothing of the call is left,
	// however it ended.
	CallEnded(r *Record)
}

// maxObservers is how many observers a Proxy may have.
const maxObservers = 4

// observation is what a call keeps for its observers. It is owned by the handler's goroutine.
type observation struct {
	record  Record
	hearing []Observer // of this call
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

// answerBegan notes when the first of the upstream's answer was here.
func (o *observation) answerBegan() {
	if o.record.FirstByte == 0 {
		o.record.FirstByte = max(time.Since(o.record.Start), 1) // 0 would say that it never began
	}
}

// observeEnd, deferred, tells the observers that the call has ended: nothing runs for it any more.
func (c *call) observeEnd() {
	defer c.recoverPanic()
	c.observation.start() // if it did not come so far
	r := &c.observation.record
	r.Duration = time.Since(r.Start)
	r.Endpoint = c.attempts.endpoint() // the attempts may have gone to several
	r.RequestMessages, r.RequestBytes = c.upload.frames.Messages, c.upload.frames.Bytes
	r.ResponseMessages, r.ResponseBytes = c.response.Messages, c.response.Bytes
	r.Attempts = c.attempts.count()
	if c.struc != nil {
		r.Struct = c.struc.Stats()
	}
	c.ending.mu.Lock() // for those who come too late to end the call
	r.Code, r.Reason, r.Limit = c.ending.code, c.ending.reason, c.ending.limit
	c.ending.mu.Unlock()
	for _, e := range c.observation.enders {
		if e != nil {
			e.CallEnded(r)
		}
	}
}
