package budget

// MayYield lets Take return ErrYield from now on, or not any more.
func (s *Share) MayYield(may bool) { s.mayYield = may }

// Reserve takes what a share is likely to need that begins again after an ErrYield: all at once and in its old place of
// the order, so that it holds nothing for which others could wait while it waits itself. Take and Give then work within
// what is reserved, until Release.
func (s *Share) Reserve() error {
	s.Release()
	n := min(2*s.yielded, s.call.budget.max-s.held)
	s.reserved, s.mayYield = true, false
	err := s.take(n)
	s.reserved, s.mayYield = err == nil, true
	if err == nil {
		s.credit = n
	}
	return err
}

// Ahead reserves n bytes, or all that there are, for what is likely to be done with the message later, when it is too late
// to begin again. The error is as for Take.
func (s *Share) Ahead(n int64) error {
	if !s.bounded() {
		return s.Err()
	}
	if n = min(n-s.credit, s.call.budget.max-s.held); n <= 0 {
		return s.Err()
	}
	if err := s.take(n); err != nil {
		return err
	}
	s.reserved = true
	s.credit += n
	return nil
}

// Release gives back what was reserved and not taken.
func (s *Share) Release() {
	if !s.reserved {
		return
	}
	credit := s.credit
	s.reserved, s.credit = false, 0
	s.Give(credit)
}
