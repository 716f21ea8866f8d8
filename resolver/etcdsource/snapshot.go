package etcdsource

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// snapshot is the last good state of etcd's documents, kept on disk for a start without etcd.
type snapshot struct {
	Format        int          `json:"format"`            // snapshotFormat
	Saved         time.Time    `json:"saved"`             // when etcd last said that there was nothing newer
	Endpoints     []string     `json:"endpoints"`         // under which etcd was reached
	Members       []string     `json:"members,omitempty"` // where its members serve clients, host:port
	Cluster       uint64       `json:"cluster"`
	Prefix        string       `json:"prefix"`
	ServicePrefix string       `json:"service_prefix"`
	Schemas       snapshotPart `json:"schemas"`
	Routes        snapshotPart `json:"routes"`
	Instances     snapshotPart `json:"instances"`
}

// snapshotPart is one prefix: its documents by name.
type snapshotPart struct {
	Revision  int64                       `json:"revision"`
	Documents map[string]snapshotDocument `json:"documents"`
}

type snapshotDocument struct {
	Revision int64  `json:"revision"`
	Value    []byte `json:"value"`
}

const (
	snapshotFormat   = 1
	maxSnapshotBytes = 1 << 30
)

// write replaces the file in one step: a reader finds the old content or the new, also after a crash.
func (s *snapshot) write(path string) error {
	doc, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("snapshot %s: %w", path, err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp") // mode 0600
	if err != nil {
		return err
	}
	_, err = tmp.Write(doc)
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
	}
	return err
}

// readSnapshot reads a file that write made. The error is fs.ErrNotExist if there is none, and else says why the file
// cannot be used: it is damaged, of another format, or of other prefixes than cfg's.
func readSnapshot(path string, cfg Config) (*snapshot, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	doc, err := io.ReadAll(io.LimitReader(file, maxSnapshotBytes))
	if err != nil {
		return nil, err
	}
	var s snapshot
	if err := json.Unmarshal(doc, &s); err != nil {
		return nil, fmt.Errorf("%s is damaged: %w", path, err)
	}
	switch {
	case s.Format != snapshotFormat:
		return nil, fmt.Errorf("%s: format %d, want %d", path, s.Format, snapshotFormat)
	case s.Prefix != cfg.Prefix || s.ServicePrefix != cfg.ServicePrefix:
		return nil, fmt.Errorf("%s: of prefixes %q and %q, want %q and %q", path, s.Prefix, s.ServicePrefix, cfg.Prefix, cfg.ServicePrefix)
	}
	return &s, nil
}

// save returns the last good versions of a follower's documents.
func (f *follower[T]) save() snapshotPart {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := snapshotPart{Revision: f.revision, Documents: make(map[string]snapshotDocument, len(f.docs))}
	f.good(func(name string, d *document[T]) {
		p.Documents[name] = snapshotDocument{Revision: d.revision, Value: d.raw}
	})
	return p
}

// restore puts the documents of a snapshot in force. The follower has none yet.
func (f *follower[T]) restore(snap *snapshot, p snapshotPart) {
	f.mu.Lock()
	for name, d := range p.Documents {
		f.putLocked(name, d.Value, d.Revision, unknownLease)
	}
	f.cluster, f.revision, f.confirmed = snap.Cluster, p.Revision, snap.Saved
	f.mu.Unlock()
	f.applyPending()
}

// snapshotDue wakes save after a change.
func (s *Source) snapshotDue() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// save writes the snapshot: now, a moment after each change, every saveInterval so that snapshot.Saved stays recent, and a
// last time after ctx has ended and ended is closed, when nothing changes any more. It returns after that.
func (s *Source) save(ctx context.Context, ended <-chan struct{}) {
	if s.cfg.Snapshot == "" {
		return
	}
	troubled, wait := false, saveDelay
	var members []string
	var asked time.Time
	write := func() {
		began := time.Now()
		if ctx.Err() == nil && began.Sub(asked) >= saveInterval {
			asked = began
			if _, known := askIdentity(ctx, s.client.Load()); known != nil {
				members = distinctive(known, s.cfg.Client.Endpoints)
			}
		}
		snap := s.snapshot()
		snap.Members = members
		err := snap.write(s.cfg.Snapshot)
		wait = max(saveDelay, saveShare*time.Since(began))
		switch {
		case err == nil:
			s.written.Store(began.UnixNano())
			if troubled {
				s.log.Info("the snapshot of routes is written again")
			}
		case !troubled:
			s.log.Error("the snapshot of routes cannot be written: a start without etcd would have none or an old one", "error", err)
		}
		if troubled = err != nil; troubled {
			s.unwritten.Add(1)
		}
	}
	write()
	now := time.NewTicker(saveInterval)
	defer now.Stop()
	for {
		select {
		case <-s.changed:
		case <-now.C:
		case <-ctx.Done():
		}
		select {
		case <-time.After(wait):
			write()
		case <-ctx.Done():
			<-ended
			write()
			return
		}
	}
}

func (s *Source) snapshot() *snapshot {
	snap := &snapshot{
		Format: snapshotFormat, Saved: s.confirmed(), Endpoints: s.cfg.Client.Endpoints, Cluster: s.cluster(),
		Prefix: s.cfg.Prefix, ServicePrefix: s.cfg.ServicePrefix,
		Schemas: s.schemas.save(), Routes: s.routes.save(), Instances: s.instances.save(),
	}
	s.bindings.keepInForce(snap)
	return snap
}

func (s *Source) cluster() uint64 {
	s.routes.mu.Lock()
	defer s.routes.mu.Unlock()
	return s.routes.cluster
}

// confirmed returns when etcd last said that it has no newer routes than those in force.
func (s *Source) confirmed() time.Time {
	s.routes.mu.Lock()
	defer s.routes.mu.Unlock()
	return s.routes.confirmed
}
