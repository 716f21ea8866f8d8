package schema

import "github.com/framegate/framegate/resolver/strict"

// maxMistakes is how many mistakes are kept and counted. The error names strict.MaxErrors of them.
const maxMistakes = 1000

// mistakes collects errors of files.
type mistakes struct {
	errs []error
}

// add notes err, unless it is nil or there are too many already.
func (m *mistakes) add(err error) {
	if err != nil && !m.full() {
		m.errs = append(m.errs, err)
	}
}

func (m *mistakes) full() bool { return len(m.errs) >= maxMistakes }

// err returns the mistakes as one error; nil if there are none.
func (m *mistakes) err() error {
	if len(m.errs) == 0 {
		return nil
	}
	return strict.Join(m.errs)
}
