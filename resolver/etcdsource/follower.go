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
	firstSyncTimeout = 2 * time.Second        // of the first read, while there is a snapshot to fall back on
	hastyPatience    = 250 * time.Millisecond // with one member of etcd, for the read after a watch that was late or silent
	// fullSyncInterval is how often all documents are read again although the watch goes on.
	fullSyncInterval = 5 * time.Minute

	// minResync and maxResync bound the wait before all documents are read again. It doubles each time.
	minResync = 100 * time.Millisecond
	maxResync = 5 * time.Second
	// steadyWatch is how long a watch must have lasted for the wait to start at minResync again.
	steadyWatch = 10 * time.Second

	// applyShare bounds the share of the time that goes into putting changes in force, however many come: when that took
	// a millisecond, the changes of the next three milliseconds are collected and put in force together.
	applyShare   = 3
	maxApplyWait = 250 * time.Millisecond // bounds the time to collect: a change is to be in force within a second
)

// Errors that end a watch. After each of them all documents are read again.
var (
	// errReplaced means that etcd is another cluster, or that its revision is lower than one it had: its data was restored
	// or removed.
	errReplaced = errors.New("etcd's data was replaced")
	// errOutOfStep means that the number of documents in etcd is not what the watch told: etcd's data was replaced while
	// nobody noticed.
	errOutOfStep = errors.New("the watch does not agree with what etcd has")
	// errLate and errSilent mean that the member of etcd that serves the watch does worse than the others. The next watch
	// goes to another member.
	errLate   = errors.New("the watch is behind what etcd has")
	errSilent = errors.New("the watch is silent while etcd answers")
	// errDue means that fullSyncInterval has passed.
	errDue = errors.New("it is time to compare all")
)

// follower keeps a copy of the documents under one prefix of etcd up to date: it reads them all at one revision, then
// watches from the next revision on.
//
//	sync ──ok──> watch ──compacted, canceled, replaced, late──> wait ──> sync
//	  └──error──> fall back on the snapshot, the first time ──> wait
//
// While etcd cannot be reached the documents stay as they are; before the first sync, the documents of the snapshot take
// their place. A bad version of a document never replaces a good one.
type follower[T any] struct {
	// set once
	what       string // for people: routes
	prefix     string // of the keys; the rest of a key is the name of its document
	parse      func(name string, value []byte) (T, error)
	foreign    func(name string) bool            // reports whether a key is not for framegate; may be nil
	apply      func(changed map[string]bool)     // puts the good versions in force; called by run's goroutine
	deleted    func(name string, d *document[T]) // is called for each good document that was deleted, before apply; may be nil
	standIn    *standIn                          // the snapshot that may be used before the first sync
	part       func(*snapshot) snapshotPart      // the part of the snapshot that has these documents
	log        *slog.Logger
	reach      *reachability
	place      *etcdclient.Place // the member of etcd that serves the watch
	probeEvery time.Duration
	inForce    chan struct{} // closed when documents are in force: after the first sync, or from the snapshot
	synced     chan struct{} // closed after the first sync

	// owned by run
	cli     *clientv3.Client
	again   []any           // log attributes that say why the last watch ended; nil if there is nothing to log
	pending map[string]bool // documents whose change is not in force yet
	next    time.Time       // when the next changes may be put in force
	step    step            // how far the watch is behind etcd
	hasty   bool            // the next sync does not wait long for one member, see hastyPatience

	mu         sync.Mutex // guards what follows; only run changes it
	docs       map[string]*document[T]
	cluster    uint64    // the id of etcd's cluster; 0 before any contact
	revision   int64     // etcd's: docs are as of it
	applied    int64     // etcd's: what is in force is as of it
	confirmed  time.Time // when etcd last said that there is nothing newer
	rejections int64     // bad versions seen
}

// document is one key of etcd, in its last good version and, if that is another, its last version.
type document[T any] struct {
	value    T      // of the last good version
	raw      []byte // the last good version as it is in etcd; nil if there was none
	revision int64  // of the last good version
	latest   int64  // the revision of the last version, good or bad
	err      error  // what is wrong with the last version; nil if it is good
	bad      []byte // the last version as it is in etcd, if it is bad
	lease    int64  // etcd's lease that the last version is attached to; 0 for none
}

// unknownLease stands for the lease of a document that comes from a snapshot.
const unknownLease = -1

// good reports whether there is a good version.
func (d *document[T]) good() bool { return d.raw != nil }

func newFollower[T any](what, prefix string, reach *reachability, log *slog.Logger) *follower[T] {
	return &follower[T]{
		what: what, prefix: prefix, log: log, reach: reach, place: etcdclient.NewPlace(what), probeEvery: etcdProbeInterval,
		inForce: make(chan struct{}), synced: make(chan struct{}), pending: map[string]bool{}, docs: map[string]*document[T]{},
	}
}

// run follows the documents until ctx ends. It is called once.
func (f *follower[T]) run(ctx context.Context, cli *clientv3.Client) {
	f.cli = cli
	wait := minResync
	for {
		if err := f.sync(ctx); err != nil {
			f.reach.failed(ctx, f.what, etcdclient.UnansweredCause(ctx, f.cli, err, time.Second))
			if !isClosed(f.inForce) && ctx.Err() == nil {
				if snap := f.standIn.get(ctx, cli); snap != nil {
					f.fallBack(snap)
				}
			}
		} else {
			f.reach.recovered(f.what)
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

// ended notes why a watch ended, for readAgain and for the next sync.
func (f *follower[T]) ended(ctx context.Context, reason error) {
	if ctx.Err() != nil || errors.Is(reason, errDue) {
		return
	}
	f.reach.noteTrouble()
	f.again = []any{"reason", reason}
	if errors.Is(reason, errLate) || errors.Is(reason, errSilent) {
		f.again = append(f.again, "member", f.place.Leave())
		f.hasty = true
	}
}

// readAgain logs that all documents were read again after a watch has ended, and why it ended. It is called only after a
// sync that succeeded: while etcd cannot be used, reachability logs that.
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

// fallBack puts the documents of a snapshot in force, unless documents are in force already. It is called by run's
// goroutine, or before run.
func (f *follower[T]) fallBack(snap *snapshot) {
	if isClosed(f.inForce) {
		return
	}
	f.restore(snap, f.part(snap))
	f.log.Warn("the last good "+f.what+" are in force until etcd can be used", "count", f.goodCount(), "revision", f.part(snap).Revision,
		"saved", snap.Saved.Format(time.RFC3339))
	close(f.inForce)
}

// sync reads all documents at one revision and puts the ones that differ in force. While there is a snapshot to fall back
// on, it gives up after firstSyncTimeout.
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
	closeOnce(f.synced) // before inForce: the caller may end the Source as soon as all is in force, and a snapshot needs synced
	closeOnce(f.inForce)
	log(f.what+" in etcd are in force", "count", f.goodCount(), "revision", resp.Header.Revision)
	return nil
}

// getAll reads all documents. After a watch that was late it asks the next member of etcd sooner, because the first one
// asked may be the member that was late.
func (f *follower[T]) getAll(ctx context.Context, timeout time.Duration) (*clientv3.GetResponse, error) {
	q := etcdclient.Question{Within: timeout, Patience: timeout / 2, Max: 2} // the answer may be large
	if f.hasty {
		q.Patience, q.Max = hastyPatience, 4
	}
	f.hasty = false
	return etcdclient.AskMembers(clientv3.WithRequireLeader(ctx), q, func(ctx context.Context) (*clientv3.GetResponse, error) {
		return f.cli.Get(ctx, f.prefix, clientv3.WithPrefix())
	})
}

// take makes f.docs equal to resp, which has all documents in etcd, and notes which of them changed.
func (f *follower[T]) take(resp *clientv3.GetResponse) {
	f.mu.Lock()
	defer f.mu.Unlock()
	// The read is linearizable: as long as etcd keeps its data, its revision is never lower than one that was seen before.
	cluster := resp.Header.ClusterId
	if resp.Header.Revision < f.revision || f.cluster != 0 && f.cluster != cluster {
		f.log.Warn("etcd's data was replaced; its "+f.what+" as they are now come into force",
			"revision", resp.Header.Revision, "was", f.revision)
	}
	for _, d := range f.docs { // so that putLocked takes the version in resp, whatever its revision is
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

// putLocked takes a version of a document, unless a later one was taken before. f.mu is held.
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
		return // it only counts as a document, see errOutOfStep
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

// applyPending puts the pending changes in force.
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

// good calls do for every document that has a good version. Goroutines other than run's hold f.mu.
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
