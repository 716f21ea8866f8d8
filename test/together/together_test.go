package together

import (
	"os"
	"sync"
	"testing"
)

const many = 5

func TestMain(m *testing.M) {
	Wait(many)
	os.Exit(m.Run())
}

func TestWait_LetsSoManyRunAtOnce(t *testing.T) {
	var all sync.WaitGroup
	all.Add(many)
	for range many {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			all.Done()
			all.Wait() // for ever, if they ran one after the other
		})
	}
}
