package health

import "time"

// Status is what the checks of an address have shown so far.
type Status struct {
	Healthy  bool      // it may get calls; so does one that is not checked yet
	Checked  time.Time // when the last check ended; zero before the first
	Err      error     // why the last check failed, for people; nil if it did not
	Failures int       // failed checks in a row, up to the last one
}

// state is the state of a target:
//
//	unknown --- first check good ---> healthy --- fall failed in a row ---> unhealthy
//	   |                                 ^                                      |  ^
//	   |                                 +------- rise good in a row -----------+  |
//	   +---------------------- first check failed ---------------------------------+
type state int

const (
	unknown state = iota
	healthy
	unhealthy
)

// record is the state of a target, and the results of checks that it depends on. Only add changes it.
type record struct {
	state    state
	checked  time.Time
	err      error
	good     int // good checks in a row, up to the last one
	failures int // failed checks in a row, up to the last one
}

// add counts the result of a check that ended at the time given, and reports whether the state has changed.
func (r *record) add(err error, at time.Time, rise, fall int) bool {
	r.checked, r.err = at, err
	if err == nil {
		r.good, r.failures = r.good+1, 0
	} else {
		r.good, r.failures = 0, r.failures+1
	}
	was := r.state
	switch {
	case was == unknown && err == nil, was == unhealthy && r.good >= rise:
		r.state = healthy
	case was == unknown, was == healthy && r.failures >= fall:
		r.state = unhealthy
	}
	return r.state != was
}

func (r *record) status() Status {
	return Status{Healthy: r.state != unhealthy, Checked: r.checked, Err: r.err, Failures: r.failures}
}
