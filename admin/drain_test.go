package admin

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestDrain_AnswersAtOnceWithWhatIsGoingOn(t *testing.T) {
	asked := 0
	c := startAPI(t, Config{Token: "secret", Control: Control{Drain: func() DrainStatus {
		asked++
		return DrainStatus{Since: time.Unix(1_700_000_000, 0).UTC(), Delay: 5 * time.Second, Timeout: 30 * time.Second, Connections: 2, Calls: 3}
	}}})
	c.fails(http.StatusUnauthorized, reasonUnauthorized, "POST", "/v1/drain", "")
	require.Zero(t, asked)
	token := header("Authorization", "Bearer secret")
	for range 2 {
		a := c.do("POST", "/v1/drain", "", token)
		require.Equal(t, http.StatusAccepted, a.code, a.body)
		require.JSONEq(t, `{"status":"draining","since":"2023-11-14T22:13:20Z","delay":"5s","timeout":"30s","connections":2,"calls":3}`, a.body)
	}
	require.Equal(t, 2, asked)
	require.Contains(t, c.fails(http.StatusMethodNotAllowed, reasonMethodNotAllowed, "GET", "/v1/drain", "", token), "want POST")
}

// A page of another site must not be able to stop a framegate that has no token.
func TestDrain_IsNotForPagesOfOtherSites(t *testing.T) {
	c := startAPI(t, Config{Control: Control{Drain: func() DrainStatus {
		t.Error("drained")
		return DrainStatus{}
	}}})
	c.fails(http.StatusForbidden, reasonCrossSite, "POST", "/v1/drain", "", header("Sec-Fetch-Site", "cross-site"))
	c.fails(http.StatusForbidden, reasonCrossSite, "POST", "/v1/drain", "", header("Origin", "http://evil.example"))
}

func TestDrain_NotProvided(t *testing.T) {
	c := startAPI(t, Config{})
	c.fails(http.StatusNotImplemented, reasonNotProvided, "POST", "/v1/drain", "")
}
