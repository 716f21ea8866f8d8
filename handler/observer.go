package handler

// Observer is told of every call but those to framegate's own services. Its methods run on the call's path, in any number of
// goroutines at once: they must neither block nor panic.
type Observer interface {
	// CallStarted is called once for each call, with what is known at its start, when its route and its endpoint are known or it is known
	// that it has none. It returns the EndObserver to tell of the call's end, or nil for none.
	CallStarted(r *Record) EndObserver
}

// EndObserver is told of the end of a call.
type EndObserver interface {
	// CallEnded is called with all that is known exactly once for each call for which CallStarted returned this EndObserver, however the
	// call ended, when no goroutine works for the call any more.
	CallEnded(r *Record)
}

// maxObservers is how many observers a Proxy may have.
const maxObservers = 4

// Observation tells the observers of one call. Its zero value tells nobody.
type Observation struct {
	hearing []Observer // the proxy's observers when the call began
	enders  [maxObservers]EndObserver
	started bool
}

// Start tells the observers that the call starts: it has an endpoint, or certainly none. It does nothing the second time.
func (o *Observation) Start(r *Record) {
	if o.started {
		return
	}
	o.started = true
	for i, observer := range o.hearing {
		o.enders[i] = observer.CallStarted(r)
	}
}

// End tells the observers that the call has ended, which r says all of.
func (o *Observation) End(r *Record) {
	for _, e := range o.enders {
		if e != nil {
			e.CallEnded(r)
		}
	}
}
