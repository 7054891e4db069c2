package proxies

// Names of the contenders, in the order of the report.
const (
	Direct      = "direct"
	Relay       = "Go TCP relay"
	Reverse     = "httputil.ReverseProxy"
	Nginx       = "nginx"
	NginxAgain  = "nginx again"
	HAProxy     = "HAProxy"
	Wattline    = "wattline"
	WattlineOff = "wattline (metering off)"
)
