package etcdsource

import (
	"context"
	"time"

	"github.com/framegate/framegate/resolver/spec"
)

type vanishedState int

const (
	vanishedAsked   vanishedState = iota // a member; etcd is asked for its lease
	vanishedLost                         // no member
	vanishedChecked                      // no member; one if it takes a connection
	vanishedKept                         // a member
)

// vanished is an instance that is not registered any more.
type vanished struct {
	name    string
	service string
	spec.Instance
	at    time.Time
	state vanishedState
	lease int64              // that it was on
	ended bool               // its lease has, as far as is known; of one that is asked for
	open  bool               // nobody has said whether it has; then it is owned by hold
	end   context.CancelFunc // ends what goes on for it
}

func (v *vanished) member() bool { return v.state == vanishedAsked || v.state == vanishedKept }

// losses are the instances that vanished. The keeper's mu guards them.
type losses struct {
	byName    map[string]*vanished
	byService map[string]map[*vanished]bool
	byAddress map[string]map[*vanished]bool
}

func newLosses() losses {
	return losses{map[string]*vanished{}, map[string]map[*vanished]bool{}, map[string]map[*vanished]bool{}}
}

func (l *losses) has(v *vanished) bool { return l.byName[v.name] == v }

// add takes an instance whose name is not there.
func (l *losses) add(v *vanished) {
	l.byName[v.name] = v
	include(l.byService, v.service, v)
	include(l.byAddress, v.Address, v)
}

// remove ends what goes on for an instance, and forgets it.
func (l *losses) remove(v *vanished) {
	v.end()
	delete(l.byName, v.name)
	exclude(l.byService, v.service, v)
	exclude(l.byAddress, v.Address, v)
}

// at returns those of that name, or at that address.
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
