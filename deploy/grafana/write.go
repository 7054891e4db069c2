package grafana

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// The data sources that provisioning/datasources defines.
const (
	clickHouseUID = "wattline-clickhouse"
	prometheusUID = "wattline-prometheus"
	sqliteUID     = "wattline-sqlite"
)

// Dashboards returns them all.
func Dashboards() []Dashboard { return []Dashboard{latency(), efficiency(), operations(), requests()} }

// object is a JSON object.
type object = map[string]any

// The grid of a dashboard.
const (
	columns   = 24
	keyHeight = 4
)

// Write is the dashboard as Grafana's JSON. For SQLite it has only the panels that its plugin can
// answer; a dashboard that has none of these is nil.
func (d *Dashboard) Write(e Engine) ([]byte, error) {
	var key, panels []object
	for i, p := range d.All() {
		if e == SQLite && !p.Portable() {
			continue
		}
		o, err := p.object(e)
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", d.Name, p.Question, err)
		}
		if i < len(d.Key) {
			key = append(key, o)
		} else {
			panels = append(panels, o)
		}
	}
	top := 0
	for i, o := range key {
		top = keyHeight
		w := columns / len(key)
		o["gridPos"] = object{"h": keyHeight, "w": w, "x": i * w, "y": 0}
	}
	for i, o := range panels {
		o["gridPos"] = object{"h": 8, "w": columns / 2, "x": i % 2 * columns / 2, "y": top + i/2*8}
	}
	panels = append(key, panels...)
	for i, o := range panels {
		o["id"] = i + 1
	}
	if len(panels) == 0 {
		return nil, nil
	}
	variables := []object{}
	for i := range d.Variables {
		o, err := d.Variables[i].object(e)
		if err != nil {
			return nil, fmt.Errorf("%s: variable %s: %w", d.Name, d.Variables[i].Name, err)
		}
		if o != nil {
			variables = append(variables, o)
		}
	}
	uid := "wattline-" + d.Name
	if e == SQLite {
		uid += "-sqlite"
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(object{
		"uid": uid, "title": d.Title, "tags": []string{"wattline"}, "schemaVersion": 39, "editable": true, "timezone": "browser",
		"time": object{"from": "now-6h", "to": "now"}, "refresh": "30s", "graphTooltip": 1, "panels": panels,
		"annotations": object{"list": []object{}},
		"links": []object{{
			"type": "dashboards", "tags": []string{"wattline"}, "title": "wattline", "icon": "external link", "tooltip": "",
			"asDropdown": true, "targetBlank": false, "includeVars": true, "keepTime": true,
		}},
		"templating": object{"list": append(variables, address("jaeger", "Jaeger", "http://localhost:16686"), address("wattline", "wattline's console", "http://localhost:11435"))},
	})
	if err != nil {
		return nil, fmt.Errorf("grafana: %w", err)
	}
	return b.Bytes(), nil
}

// object is the panel as JSON, without its place.
func (p *Panel) object(e Engine) (object, error) {
	var targets []object
	source := object{"type": "prometheus", "uid": prometheusUID}
	for i, s := range p.PromQL {
		targets = append(targets, object{"refId": ref(i), "datasource": source, "expr": s.Expr, "legendFormat": s.Legend, "editorMode": "code"})
	}
	for i, s := range p.SQL {
		text, err := Render(s, e)
		if err != nil {
			return nil, err
		}
		t := e.target(text, p.Kind == Lines)
		source, _ = t["datasource"].(object)
		t["refId"] = ref(i)
		targets = append(targets, t)
	}
	custom := object{}
	if p.Kind == Table {
		custom = object{"align": "auto", "inspect": false}
	}
	if p.Stacked {
		custom = object{"fillOpacity": 40, "stacking": object{"mode": "normal"}}
	}
	defaults := object{"unit": p.Unit, "custom": custom}
	if p.Bad != 0 {
		defaults["color"] = object{"mode": "thresholds"}
		defaults["thresholds"] = object{"mode": "absolute", "steps": []object{
			{"color": "green", "value": nil}, {"color": "orange", "value": p.Warn}, {"color": "red", "value": p.Bad},
		}}
	}
	o := object{
		"type": string(p.Kind), "title": p.Question, "datasource": source, "targets": targets,
		"fieldConfig": object{"defaults": defaults, "overrides": append(links(), p.axes()...)},
	}
	if p.Doc != "" {
		o["description"] = p.Doc
	}
	return o, nil
}

// target asks an engine's plugin.
func (e Engine) target(text string, series bool) object {
	if e == SQLite {
		t := object{
			"datasource": object{"type": "frser-sqlite-datasource", "uid": sqliteUID}, "rawQueryText": text, "queryText": text,
			"queryType": "table", "timeColumns": []string{"time"},
		}
		if series {
			t["queryType"] = "time series"
		}
		return t
	}
	t := object{
		"datasource": object{"type": "grafana-clickhouse-datasource", "uid": clickHouseUID}, "rawSql": text,
		"editorType": "sql", "queryType": "table", "format": 1,
	}
	if series {
		t["queryType"], t["format"] = "timeseries", 0
	}
	return t
}

// address is a variable that a person changes: where links lead to.
func address(name, label, otherwise string) object {
	return object{"name": name, "label": label, "type": "textbox", "query": otherwise, "current": object{"text": otherwise, "value": otherwise}}
}

// links makes the columns named trace and request lead to the trace and to wattline's row.
func links() (out []object) {
	for _, l := range []struct{ column, title, url string }{
		{"trace", "Trace in Jaeger", "${jaeger:raw}/trace/${__value.raw}"},
		{"request", "Request in wattline", "${wattline:raw}/requests/${__value.raw}"},
	} {
		out = append(out, override(l.column, object{"id": "links", "value": []object{{"title": l.title, "targetBlank": true, "url": l.url}}}))
	}
	return out
}

// axes gives fields their own unit and side.
func (p *Panel) axes() (out []object) {
	for _, a := range p.Axes {
		side := "left"
		if a.Right {
			side = "right"
		}
		out = append(out, override(a.Field, object{"id": "unit", "value": a.Unit},
			object{"id": "custom.axisPlacement", "value": side}, object{"id": "custom.axisLabel", "value": a.Label}))
	}
	return out
}

func override(field string, properties ...object) object {
	return object{"matcher": object{"id": "byName", "options": field}, "properties": properties}
}

func ref(i int) string { return string(rune('A' + i)) }
