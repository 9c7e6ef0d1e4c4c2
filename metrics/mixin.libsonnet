// The rules, alerts and dashboards as a monitoring mixin, for those whose monitoring is in jsonnet.
// The YAML and JSON files beside are what is maintained; here they only get a mixin's names.
local rules = std.parseYaml(importstr 'rules/gthreadsrv.rules.yml');
local alerts = std.parseYaml(importstr 'rules/gthreadsrv.alerts.yml');

{
  _config+:: {
    // Put in front of metrics/RUNBOOK.md#... in every alert: where you publish this repository.
    runbookPrefix: '',
  },

  prometheusRules+:: rules,

  prometheusAlerts+:: {
    groups: [
      group {
        rules: [
          rule {
            annotations+: { runbook_url: $._config.runbookPrefix + rule.annotations.runbook_url },
          }
          for rule in group.rules
        ],
      }
      for group in alerts.groups
    ],
  },

  grafanaDashboards+:: {
    'gthreadsrv-overview.json': (import '../grafana/dashboards/overview.json'),
    'gthreadsrv-worker-saturation.json': (import '../grafana/dashboards/worker-saturation.json'),
    'gthreadsrv-resources.json': (import '../grafana/dashboards/resources.json'),
    'gthreadsrv-exporter.json': (import '../grafana/dashboards/exporter.json'),
  },
}
