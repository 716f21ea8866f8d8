package budget

// MayYield sets whether Take may return ErrYield: whether the share can begin its message again.
func (s *Share) MayYield(may bool) { s.mayYield = may }

// Reserve takes, after an ErrYield, what the share is likely to need for its message: twice what it held and asked for when
// it had to yield. It takes all at once, in the call's old place in the queue, so that the share holds nothing that other
// calls wait for while it waits itself. Take and Give then count within what is reserved, until Release. The error is as for
// Take, but not ErrYield.
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

// Ahead reserves n bytes, but no more than the whole budget, for later steps with the message, at which the share can no
// longer begin again. The error is as for Take.
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

// Release gives back what is reserved and was not taken.
func (s *Share) Release() {
	if !s.reserved {
		return
	}
	credit := s.credit
	s.reserved, s.credit = false, 0
	s.Give(credit)
}
