package etcdsource

import (
	"context"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/framegate/framegate/resolver/etcdclient"
)

// watch puts changes in force until the watch cannot be relied on any more, as the error says, or ctx ends. A connection
// that breaks does not end it, because etcd's client resumes the watch where it was.
func (f *follower[T]) watch(ctx context.Context) error {
	ctx, cancel := context.WithCancel(f.place.Watching(ctx))
	var helpers sync.WaitGroup
	defer helpers.Wait()
	defer cancel()
	defer f.applyPending() // changes that came before the end do not wait for the next sync
	opened, from := make(chan clientv3.WatchChan, 1), f.revision+1
	f.step = step{from: from}
	helpers.Go(func() { // in a goroutine, because Watch blocks until there is a connection
		opened <- f.cli.Watch(ctx, f.prefix, clientv3.WithPrefix(), clientv3.WithRev(from), clientv3.WithProgressNotify())
	})
	var changes clientv3.WatchChan
	var due <-chan time.Time // when pending changes are to be put in force

	look := time.NewTicker(f.probeEvery)
	defer look.Stop()
	all := time.NewTimer(etcdclient.Jitter(fullSyncInterval))
	defer all.Stop()
	var probed chan probeResult // gets the result of the probe under way; nil if there is none
	var late <-chan time.Time   // when to check whether the watch has reached step.behind
	probes := 0
	progress := make(chan struct{}, 1) // full while a progress request is under way
	told := func(resp clientv3.WatchResponse, ok bool) error {
		if err := f.heard(resp, ok); err != nil {
			return err
		}
		if due == nil {
			if wait := time.Until(f.next); wait > 0 && len(f.pending) > 0 {
				due = time.After(wait)
			} else {
				f.applyPending()
			}
		}
		return nil
	}
	for {
		select {
		case changes = <-opened:
		case resp, ok := <-changes:
			if err := told(resp, ok); err != nil {
				return err
			}
		case <-due:
			due = nil
			f.applyPending()
		case <-all.C:
			return errDue
		case <-look.C:
			if probed == nil {
				result, known, full := make(chan probeResult, 1), f.revision, probes%fullProbes == 0
				helpers.Go(func() { result <- f.probe(ctx, known, full) })
				probed = result
				probes++
			}
		case got := <-probed:
			probed = nil
			if got.err != nil {
				f.reach.failed(ctx, f.what, got.err)
				continue
			}
			f.reach.recovered(f.what)
			if err := f.compare(got); err != nil {
				return err
			}
			select {
			case progress <- struct{}{}:
				helpers.Go(func() { f.askProgress(ctx); <-progress })
			default:
			}
			if late == nil && f.step.behind != 0 {
				late = time.After(time.Until(f.step.due))
			}
		case <-late:
			late = nil
			if f.step.behind == 0 {
				continue
			}
			if f.step.late() {
				select {
				case resp, ok := <-changes: // the watch has told more, and this goroutine has not read it yet
					if err := told(resp, ok); err != nil {
						return err
					}
					f.step.due = time.Now().Add(lateGrace)
				case <-time.After(lateGrace):
					return errLate
				}
			}
			late = time.After(time.Until(f.step.due))
		}
	}
}

// heard takes a response of the watch; ok is false if its channel was closed. An error ends the watch.
func (f *follower[T]) heard(resp clientv3.WatchResponse, ok bool) error {
	if !ok {
		return fmt.Errorf("watch of %s ended", f.what)
	}
	if err := resp.Err(); err != nil {
		return fmt.Errorf("watch of %s: %w", f.what, err)
	}
	if f.cluster != resp.Header.ClusterId {
		return errReplaced
	}
	return f.follow(resp)
}

// follow takes the changes of one response, which applyPending then puts in force. An error ends the watch.
func (f *follower[T]) follow(resp clientv3.WatchResponse) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range resp.Events {
		name, revision := f.nameOf(e.Kv.Key), e.Kv.ModRevision
		if err := f.step.reached(revision-1, len(f.docs)); err != nil {
			return err
		}
		if e.Type != clientv3.EventTypeDelete {
			f.putLocked(name, e.Kv.Value, revision, e.Kv.Lease)
		} else if d := f.docs[name]; d != nil && revision > d.latest {
			f.deleteLocked(name, d)
		}
		f.revision = max(f.revision, revision)
	}
	if resp.IsProgressNotify() {
		f.revision = max(f.revision, resp.Header.Revision)
	}
	f.confirmed = time.Now()
	f.step.silent = 0
	return f.step.reached(f.revision, len(f.docs))
}
