package etcdsource

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/framegate/framegate/resolver/etcdclient"
)

const (
	firstSyncTimeout = 2 * time.Second        // while there is a snapshot to fall back on
	hastyPatience    = 250 * time.Millisecond // with one member, after the last one that had the watch was late
	// fullSyncInterval is how often everything is read again although the watch goes on.
	fullSyncInterval = 5 * time.Minute

	minResync = 100 * time.Millisecond
	maxResync = 5 * time.Second
	// steadyWatch is how long a watch must have lasted for the next resync to start with the shortest wait again.
	steadyWatch = 10 * time.Second

	// applyShare bounds how much of the time goes into putting changes in force, however many come: after some that took
	// a millisecond, those of the next three wait for each other.
	applyShare   = 3
	maxApplyWait = 250 * time.Millisecond // and no longer: a change is to be in force within a second
)

// Errors that end a watch. Read everything again.
var (
	// errReplaced means that etcd is another cluster, or its revision lower than one it had: its data was restored or
	// removed.
	errReplaced = errors.New("etcd's data was replaced")
	// errOutOfStep means that etcd has not as many documents as the watch told of: its data was replaced unnoticed.
	errOutOfStep = errors.New("the watch does not agree with what etcd has")
	// errLate and errSilent mean that the member that has the watch is not as good as others. Watch at another.
	errLate   = errors.New("the watch is behind what etcd has")
	errSilent = errors.New("the watch is silent while etcd answers")
	errDue    = errors.New("it is time to compare all")
)

// follower keeps the documents under one prefix of etcd in step: it reads them all at one revision, then watches from
// the next one.
//
//	sync ──ok──> watch ──compacted, canceled, replaced, late──> wait ──> sync
//	  └──error──> fall back, the first time ──────────────────> wait
//
// While etcd cannot be reached the documents stay as they are; before the first sync, those of the snapshot stand in. A
// bad document never replaces a good one.
type follower[T any] struct {
	// set once
	what       string // for people: routes
	prefix     string // what the keys start with; documents are named by the rest
	parse      func(name string, value []byte) (T, error)
	foreign    func(name string) bool            // tells keys that are somebody else's; may be nil
	apply      func(changed map[string]bool)     // puts the good versions in force; called by run's goroutine
	deleted    func(name string, d *document[T]) // hears of good ones before apply does; may be nil
	standIn    *standIn                          // what may stand in before the first sync
	part       func(*snapshot) snapshotPart      // of the snapshot, that these documents are
	log        *slog.Logger
	outage     *outage
	place      *etcdclient.Place // of the watch
	probeEvery time.Duration
	inForce    chan struct{} // closed when documents are in force: after the first sync, or from the snapshot
	synced     chan struct{} // closed after the first sync

	// owned by run
	cli     *clientv3.Client
	again   []any           // why the last watch ended, for the log once all was read again; nil for nothing
	pending map[string]bool // documents whose change is not in force yet
	next    time.Time       // when the next changes may be put in force
	step    step            // of the watch with etcd
	hasty   bool            // the next sync goes to another member soon

	mu         sync.Mutex // guards what follows; only run changes it
	docs       map[string]*document[T]
	cluster    uint64    // etcd's id; 0 before any contact
	revision   int64     // etcd's, up to which docs are known
	applied    int64     // etcd's, up to which they are in force
	confirmed  time.Time // when etcd last said that there is nothing newer
	rejections int64     // bad versions seen
}

// document is what is known of one key.
type document[T any] struct {
	value    T      // of the last good version
	raw      []byte // the same as it is in etcd; nil if there was none
	revision int64  // of the last good version
	latest   int64  // of the last version, good or bad
	err      error  // what is wrong with the last version
	bad      []byte // the last version as it is in etcd, if it is bad
	lease    int64  // that the last version is on; 0 for none
}

// unknownLease stands for the lease of a document that is from a snapshot.
const unknownLease = -1

func (d *document[T]) good() bool { return d.raw != nil }

func newFollower[T any](what, prefix string, o *outage, log *slog.Logger) *follower[T] {
	return &follower[T]{
		what: what, prefix: prefix, log: log, outage: o, place: etcdclient.NewPlace(what), probeEvery: etcdProbeInterval,
		inForce: make(chan struct{}), synced: make(chan struct{}), pending: map[string]bool{}, docs: map[string]*document[T]{},
	}
}

// run follows the documents until ctx ends. It is called once.
func (f *follower[T]) run(ctx context.Context, cli *clientv3.Client) {
	f.cli = cli
	wait := minResync
	for {
		if err := f.sync(ctx); err != nil {
			f.outage.failed(ctx, f.what, etcdclient.UnansweredCause(ctx, f.cli, err, time.Second))
			if !isClosed(f.inForce) && ctx.Err() == nil {
				if snap := f.standIn.get(ctx, cli); snap != nil {
					f.fallBack(snap)
				}
			}
		} else {
			f.outage.over(f.what)
			f.readAgain()
			began := time.Now()
			err = f.watch(ctx)
			if time.Since(began) >= steadyWatch {
				wait = minResync
			}
			f.ended(ctx, err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(etcdclient.Jitter(wait)):
		}
		wait = min(2*wait, maxResync)
	}
}

// ended notes why a watch ended.
func (f *follower[T]) ended(ctx context.Context, reason error) {
	if ctx.Err() != nil || errors.Is(reason, errDue) {
		return
	}
	f.outage.troubled()
	f.again = []any{"reason", reason}
	if errors.Is(reason, errLate) || errors.Is(reason, errSilent) {
		f.again = append(f.again, "member", f.place.Leave())
		f.hasty = true
	}
}

// readAgain notes in the log that all was read again, and why. That takes an etcd that can be used: while it cannot,
// outage says so.
func (f *follower[T]) readAgain() {
	if f.again != nil {
		f.log.Info("all "+f.what+" in etcd were read again", f.again...)
		f.again = nil
	}
}

// closeOnce closes a channel that one goroutine alone closes.
func closeOnce(c chan struct{}) {
	if !isClosed(c) {
		close(c)
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// fallBack puts a snapshot in force where nothing is yet. It is called by run's goroutine, or before run.
func (f *follower[T]) fallBack(snap *snapshot) {
	if isClosed(f.inForce) {
		return
	}
	f.restore(snap, f.part(snap))
	f.log.Warn("the last good "+f.what+" are in force until etcd can be used", "count", f.goodCount(), "revision", f.part(snap).Revision,
		"saved", snap.Saved.Format(time.RFC3339))
	close(f.inForce)
}

// sync reads all documents at one revision and puts what differs in force. While a snapshot may stand in, it does not
// wait long.
func (f *follower[T]) sync(ctx context.Context) error {
	timeout := etcdclient.RequestTimeout
	if !isClosed(f.inForce) && f.standIn.there() {
		timeout = firstSyncTimeout
	}
	resp, err := f.getAll(ctx, timeout)
	if err != nil {
		return fmt.Errorf("get %s: %w", f.what, err)
	}
	f.take(resp)
	log := f.log.Info
	if isClosed(f.synced) && len(f.pending) == 0 {
		log = f.log.Debug
	}
	f.applyPending()
	closeOnce(f.synced) // first: who is told that all is in force may end at once, and then there is a snapshot
	closeOnce(f.inForce)
	log(f.what+" in etcd are in force", "count", f.goodCount(), "revision", resp.Header.Revision)
	return nil
}

// getAll reads all documents. After a late watch it asks a further member soon: the one that was late may be the one asked.
func (f *follower[T]) getAll(ctx context.Context, timeout time.Duration) (*clientv3.GetResponse, error) {
	q := etcdclient.Question{Within: timeout, Patience: timeout / 2, Max: 2} // that may be much to read
	if f.hasty {
		q.Patience, q.Max = hastyPatience, 4
	}
	f.hasty = false
	return etcdclient.AskMembers(clientv3.WithRequireLeader(ctx), q, func(ctx context.Context) (*clientv3.GetResponse, error) {
		return f.cli.Get(ctx, f.prefix, clientv3.WithPrefix())
	})
}

// take compares what is known with all that is in etcd.
func (f *follower[T]) take(resp *clientv3.GetResponse) {
	f.mu.Lock()
	defer f.mu.Unlock()
	// The read is linearizable: in one store, its revision cannot be lower than what was seen before.
	cluster := resp.Header.ClusterId
	if resp.Header.Revision < f.revision || f.cluster != 0 && f.cluster != cluster {
		f.log.Warn("etcd's data was replaced; its "+f.what+" as they are now come into force",
			"revision", resp.Header.Revision, "was", f.revision)
	}
	for _, d := range f.docs { // what is in etcd now counts, whatever its revision is
		d.latest = 0
	}
	present := make(map[string]bool, len(resp.Kvs))
	for _, kv := range resp.Kvs {
		name := f.nameOf(kv.Key)
		present[name] = true
		f.putLocked(name, kv.Value, kv.ModRevision, kv.Lease)
	}
	for name, d := range f.docs {
		if !present[name] {
			f.deleteLocked(name, d)
		}
	}
	f.cluster, f.revision, f.confirmed = cluster, resp.Header.Revision, time.Now()
}

func (f *follower[T]) nameOf(key []byte) string { return strings.TrimPrefix(string(key), f.prefix) }

// putLocked notes a version of a document. f.mu is held.
func (f *follower[T]) putLocked(name string, value []byte, revision, lease int64) {
	d := f.docs[name]
	if d == nil {
		d = &document[T]{}
		f.docs[name] = d
	}
	if revision <= d.latest {
		return
	}
	d.latest, d.lease = revision, lease
	if f.foreign != nil && f.foreign(name) {
		return // it is only counted
	}
	if d.good() && bytes.Equal(d.raw, value) {
		d.revision, d.err, d.bad = revision, nil, nil
		return
	}
	if d.err != nil && bytes.Equal(d.bad, value) {
		return
	}
	v, err := f.parse(name, value)
	d.err, d.bad = err, nil
	if err != nil {
		d.bad = append([]byte{}, value...)
		f.rejections++
		stays := "no version of it is in force"
		if d.good() {
			stays = "its last good version stays in force"
		}
		f.log.Error("bad document among "+f.what+" in etcd; "+stays, "key", f.prefix+name, "revision", revision, "error", err)
		return
	}
	d.value, d.raw, d.revision = v, append([]byte{}, value...), revision
	f.pending[name] = true
}

func (f *follower[T]) deleteLocked(name string, d *document[T]) {
	delete(f.docs, name)
	if d.good() {
		f.pending[name] = true
		if f.deleted != nil {
			f.deleted(name, d)
		}
	}
}

// applyPending puts the changes that were noted in force.
func (f *follower[T]) applyPending() {
	if len(f.pending) > 0 {
		began := time.Now()
		f.apply(f.pending)
		f.next = time.Now().Add(min(applyShare*time.Since(began), maxApplyWait))
		clear(f.pending)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.applied = f.revision
}

// good calls do for the last good version of every document that has one. f.mu may be needed: see docs.
func (f *follower[T]) good(do func(name string, d *document[T])) {
	for name, d := range f.docs {
		if d.good() {
			do(name, d)
		}
	}
}

func (f *follower[T]) goodCount() (n int) {
	f.good(func(string, *document[T]) { n++ })
	return n
}

// rejected counts the documents whose last version is bad.
func (f *follower[T]) rejected() (now int, ever int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, d := range f.docs {
		if d.err != nil {
			now++
		}
	}
	return now, f.rejections
}
