package etcdsource

import (
	"context"
	"time"

	"github.com/framegate/framegate/resolver/spec"
)

// vanishedState is the state of an instance that vanished; see keeper. A member is an instance in force: it gets calls.
type vanishedState int

const (
	vanishedAsked   vanishedState = iota // a member; etcd is asked for its lease
	vanishedLost                         // no member
	vanishedChecked                      // no member; becomes one if it takes a connection
	vanishedKept                         // a member
)

// vanished is an instance that is not registered any more.
type vanished struct {
	name    string
	service string
	spec.Instance
	at    time.Time // when it vanished
	state vanishedState
	lease int64              // that it was attached to
	ended bool               // the lease has ended, or no member of etcd has answered; false while etcd is asked
	open  bool               // no member of etcd has said whether the lease has ended; owned by hold once that runs
	end   context.CancelFunc // ends the goroutine or the timer of the instance
}

func (v *vanished) member() bool { return v.state == vanishedAsked || v.state == vanishedKept }

// losses is a set of instances that vanished. The keeper's mu guards it.
type losses struct {
	byName    map[string]*vanished
	byService map[string]map[*vanished]bool
	byAddress map[string]map[*vanished]bool
}

func newLosses() losses {
	return losses{map[string]*vanished{}, map[string]map[*vanished]bool{}, map[string]map[*vanished]bool{}}
}

func (l *losses) has(v *vanished) bool { return l.byName[v.name] == v }

// add adds an instance, of a name that is not in the set.
func (l *losses) add(v *vanished) {
	l.byName[v.name] = v
	include(l.byService, v.service, v)
	include(l.byAddress, v.Address, v)
}

// remove ends the goroutine or the timer of an instance, and removes it from the set.
func (l *losses) remove(v *vanished) {
	v.end()
	delete(l.byName, v.name)
	exclude(l.byService, v.service, v)
	exclude(l.byAddress, v.Address, v)
}

// at returns the instances with that name or that address.
func (l *losses) at(name, address string) (all []*vanished) {
	for v := range l.byAddress[address] {
		all = append(all, v)
	}
	if v := l.byName[name]; v != nil && v.Address != address {
		all = append(all, v)
	}
	return all
}

func include(sets map[string]map[*vanished]bool, key string, v *vanished) {
	if sets[key] == nil {
		sets[key] = map[*vanished]bool{}
	}
	sets[key][v] = true
}

func exclude(sets map[string]map[*vanished]bool, key string, v *vanished) {
	if delete(sets[key], v); len(sets[key]) == 0 {
		delete(sets, key)
	}
}
