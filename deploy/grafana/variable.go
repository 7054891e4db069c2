package grafana

import "strings"

// Variable is a list from which a person chooses what the panels are about; at first it is all.
type Variable struct {
	Name   string
	SQL    string // of the values in the dashboard's range
	PromQL string // instead, where the panels ask Prometheus: label_values(series, label)
}

// Variables of the rows. A row without a value is chosen as -.
func instances() Variable { return ofRows("instance") }
func routes() Variable    { return ofRows("route") }
func models() Variable    { return ofRows("model") }
func agents() Variable    { return ofRows("agent") }

func ofRows(column string) Variable {
	return Variable{Name: column, SQL: `SELECT DISTINCT coalesce(` + column + `, '-') AS v FROM requests WHERE {{within "started_at"}} ORDER BY v`}
}

func devices() Variable {
	return Variable{Name: "device", SQL: `SELECT DISTINCT coalesce(device, '-') AS v FROM power WHERE {{within "at"}} ORDER BY v`}
}

// Variables of the metrics: an instance is named there by the address that is scraped.
func scrapedInstances() Variable {
	return Variable{Name: "instance", PromQL: `label_values(wattline_requests_in_flight, instance)`}
}

func scrapedRoutes() Variable {
	return Variable{Name: "route", PromQL: `label_values(wattline_requests_in_flight, wattline_route)`}
}

func scrapedDevices() Variable {
	return Variable{Name: "device", PromQL: `label_values(hw_power_watts, hw_id)`, SQL: devices().SQL}
}

// object is the variable as JSON, or nil where its values cannot be asked for.
func (v *Variable) object(e Engine) (object, error) {
	o := object{
		"name": v.Name, "label": v.Name, "type": "query", "multi": true, "includeAll": true, "refresh": 2, "sort": 1, // with each change of the range
		"current": object{"text": []string{"All"}, "value": []string{"$__all"}},
	}
	if v.PromQL != "" && e != SQLite {
		o["datasource"], o["query"] = object{"type": "prometheus", "uid": prometheusUID}, v.PromQL
		return o, nil
	}
	if v.SQL == "" {
		return nil, nil //nolint:nilnil // no panel of this engine uses it
	}
	text, err := Render(v.SQL, e)
	o["datasource"], o["query"] = e.target("", false)["datasource"], text
	return o, err
}

// chosen limits rows to the values that are chosen of these variables.
func chosen(columns ...string) string {
	var all []string
	for _, c := range columns {
		all = append(all, "coalesce("+c+", '-') IN (${"+c+":sqlstring})")
	}
	return strings.Join(all, " AND ")
}
