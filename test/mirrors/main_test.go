package mirrors

import (
	"testing"

	"github.com/framegate/framegate/test/leak"
)

func TestMain(m *testing.M) { leak.Main(m, 4) }
