package handler

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
