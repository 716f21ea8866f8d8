package etcdserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"
	"go.etcd.io/etcd/client/pkg/v3/fileutil"
)

const (
	// lockWait is how long a start waits for a process that uses the directory, which may be about to end.
	lockWait  = 2 * time.Second
	lockRetry = 50 * time.Millisecond
)

// errInUse means that another process uses the directory. Wait for its end, or take another directory.
var errInUse = errors.New("in use")

// dataDir is a locked data directory: no other framegate uses it until unlock.
type dataDir struct {
	path string
	lock *fileutil.LockedFile
}

// lockDataDir makes the directory if it does not exist and locks it for this process, waiting at most lockWait. It also
// checks that the database can be opened: etcd itself would wait without end for a directory in use, and end the process if
// it cannot open the database. The error says what to do.
func lockDataDir(ctx context.Context, path string) (*dataDir, error) {
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	if err := os.MkdirAll(path, fileutil.PrivateDirMode); err != nil {
		return nil, notWritable(path, err)
	}
	lock, err := takeLock(ctx, filepath.Join(path, "framegate.lock"))
	if err == nil {
		if err = checkDatabase(ctx, filepath.Join(path, "member", "snap", "db")); err == nil {
			return &dataDir{path: path, lock: lock}, nil
		}
		_ = lock.Close()
	}
	switch {
	case errors.Is(err, errInUse):
		return nil, fmt.Errorf("etcd data directory: %s is in use by another framegate or etcd; use that etcd with --etcd ENDPOINT, or give this one another directory", path)
	case errors.Is(err, bbolterrors.ErrInvalid), errors.Is(err, bbolterrors.ErrChecksum), errors.Is(err, bbolterrors.ErrVersionMismatch):
		return nil, fmt.Errorf("etcd data directory: %s does not hold an etcd database that can be read (%w); restore it, or give another directory", path, err)
	}
	return nil, notWritable(path, err)
}

func notWritable(path string, err error) error {
	return fmt.Errorf("etcd data directory: %s, want a directory that framegate can write, or an etcd elsewhere with --etcd ENDPOINT: %w", path, err)
}

func (d *dataDir) unlock() { _ = d.lock.Close() }

// takeLock locks a file, for which it waits until ctx ends; the error is errInUse then.
func takeLock(ctx context.Context, path string) (*fileutil.LockedFile, error) {
	for {
		lock, err := fileutil.TryLockFile(path, os.O_CREATE|os.O_WRONLY, fileutil.PrivateFileMode)
		if !errors.Is(err, fileutil.ErrLocked) {
			return lock, err
		}
		select {
		case <-ctx.Done():
			return nil, errInUse
		case <-time.After(lockRetry):
		}
	}
}

// checkDatabase opens etcd's database, if there is one, and returns why that fails. It also detects another etcd that uses
// the directory: that locks only this file.
func checkDatabase(ctx context.Context, path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) || err == nil && info.Size() == 0 {
		return nil // etcd makes the database
	}
	if err != nil {
		return err
	}
	deadline, _ := ctx.Deadline()
	wait := max(time.Until(deadline), lockRetry) // above 0, with which bbolt would wait without end
	db, err := bbolt.Open(path, fileutil.PrivateFileMode, &bbolt.Options{ReadOnly: true, Timeout: wait})
	if errors.Is(err, bbolterrors.ErrTimeout) {
		return errInUse
	}
	if err != nil {
		return err
	}
	return db.Close()
}
