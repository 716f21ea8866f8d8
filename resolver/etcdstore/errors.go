package etcdstore

import "github.com/framegate/framegate/resolver/strict"

// InvalidError says what is wrong with routes that were to be stored, or with a schema for routes in etcd. Nothing was
// stored.
type InvalidError struct{ Err error }

func (e *InvalidError) Error() string { return e.Err.Error() }

// Unwrap returns what is wrong, joined.
func (e *InvalidError) Unwrap() error { return e.Err }

// invalid returns an InvalidError of all mistakes, or nil if there are none.
func invalid(errs []error) error {
	if len(errs) == 0 {
		return nil
	}
	return &InvalidError{strict.Join(errs)}
}
