package etcdstore

import "github.com/framegate/framegate/resolver/strict"

// InvalidError means that routes are not valid, or that routes and schemas do not fit. Nothing was stored.
type InvalidError struct{ Err error }

func (e *InvalidError) Error() string { return e.Err.Error() }

// Unwrap returns all mistakes, joined.
func (e *InvalidError) Unwrap() error { return e.Err }

// invalid returns an InvalidError of all mistakes, or nil if there are none.
func invalid(errs []error) error {
	if len(errs) == 0 {
		return nil
	}
	return &InvalidError{strict.Join(errs)}
}
