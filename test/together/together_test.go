package together

import (
	"os"
	"sync"
	"testing"

	"github.com/framegate/framegate/test/race"
)

const many = 5

func TestMain(m *testing.M) {
	Wait(race.Choose(many, 2*many))
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
