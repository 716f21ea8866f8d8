package kitexconn

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLayout_IsTheOneInUse(t *testing.T) { require.NoError(t, CheckLayout()) }
