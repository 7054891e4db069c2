package serving

import "time"

// Flags are the settings of serve, with the tags by which kong reads them.
type Flags struct {
	Upstream string `help:"Address of llama-server: http://HOST:PORT, https://HOST:PORT or unix:///PATH." default:"${upstream}" placeholder:"URL"`
	Listen   string `help:"Address to listen on for clients." default:"${listen}" placeholder:"ADDR"`
	Admin    string `help:"Address to listen on for the admin API, or off." default:"${admin}" placeholder:"ADDR"`
	Store    string `help:"SQLite file for the rows. Default: ${store}." placeholder:"FILE"`
	Instance string `help:"Name of this wattline in the rows. Default: the host name."`
	TLSCert  string `name:"tls-cert" help:"Certificate file (PEM); with it, clients connect over TLS." placeholder:"FILE"`
	TLSKey   string `name:"tls-key" help:"Private key file (PEM) of the certificate." placeholder:"FILE"`

	Identify       string            `help:"How user, session and client address are stored: ${enum}. hash uses a secret key of this installation. API keys are hashed, or with none left out." enum:"hash,plain,none" default:"hash"`
	SessionHeaders []string          `help:"Further request headers that name a session, and members of the body (body:metadata.chat); the first one present is used. They come before the known ones (${session_headers}), or replace them behind the word only." placeholder:"NAME,..."`
	Agents         map[string]string `help:"Names for clients: NAME=key:ID (column api_key_id), NAME=header:NAME=VALUE, NAME=address:NETWORK, NAME=user-agent:PREFIX or NAME=route:NAME." placeholder:"NAME=FACT;..."`
	Labels         map[string]string `help:"Labels for requests without an X-Wattline-Labels header: k=v;k=v." placeholder:"K=V"`
	PricePerKWh    *float64          `name:"price-per-kwh" help:"Price of one kWh, stored in each row. Default: none; no cost is shown."`
	GCO2PerKWh     *float64          `name:"gco2-per-kwh" help:"Grams of CO2e per kWh, stored in each row. Default: none."`
	Currency       string            `help:"Currency of the price, for display." default:"EUR"`

	Monitor         time.Duration `help:"Send a canary (three small requests) to each route this often while nobody else has a request in flight, and say when the server changed. 0: none." default:"0s"`
	Pprof           bool          `help:"Serve Go profiles of this process at /debug/pprof/ of the admin API."`
	StopTimeout     time.Duration `help:"How long running requests may continue after SIGTERM." default:"30s"`
	HandoverTimeout time.Duration `help:"How long they may continue in the old process after an upgrade (SIGUSR2). 0: until they end." default:"0s"`
	AdminFlags
	EnergyFlags
	AutopsyFlags
	RetentionFlags
	TelemetryFlags
	LimitFlags
}

// LimitFlags are the limits and idle timeouts of the data path. None of them limits the duration of a request.
type LimitFlags struct {
	MaxHeaderBytes int           `help:"Largest request head; larger ones are answered with 431." default:"${max_header_bytes}" group:"Limits"`
	MaxBodyBytes   int64         `help:"Largest request body; larger ones are answered with 413. 0: no limit." default:"${max_body_bytes}" group:"Limits"`
	MaxConns       int           `help:"Maximum number of client connections; more are answered with 503. Each needs two open files." default:"${max_conns}" group:"Limits"`
	MaxRequests    int           `help:"Maximum number of requests in flight; more are answered with 503." default:"${max_requests}" group:"Limits"`
	KeepAliveIdle  time.Duration `help:"How long a client connection may be idle between requests." default:"${keep_alive_idle}" group:"Limits"`
	HeaderIdle     time.Duration `help:"Longest pause while a client sends a request head." default:"${header_idle}" group:"Limits"`
	BodyIdle       time.Duration `help:"Longest pause while a client sends a request body." default:"${body_idle}" group:"Limits"`
	WriteIdle      time.Duration `help:"How long a client may stop reading its reply." default:"${write_idle}" group:"Limits"`
	UpstreamIdle   time.Duration `help:"How long the upstream may send nothing (a long prompt on a CPU takes minutes)." default:"${upstream_idle}" group:"Limits"`
}
