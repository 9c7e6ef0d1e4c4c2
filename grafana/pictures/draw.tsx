// Draws one dashboard, from its JSON and Prometheus' answers, with Grafana's own components.
//
// Runs in the page that take.py opens. What Grafana's application does around the components is
// done here in the smallest way that gives the same picture: field settings and overrides,
// transformations and reduction are Grafana's own (@grafana/data), the grid is CSS.

import React from 'react';
import { createRoot } from 'react-dom/client';
import { lastValueFrom } from 'rxjs';
import {
  applyFieldOverrides, createTheme, DataFrame, dateTime, FieldConfigOptionsRegistry, FieldType,
  getFieldDisplayName, getFieldDisplayValues, standardTransformers, standardTransformersRegistry, ThemeContext,
  toDataFrame, transformDataFrame,
} from '@grafana/data';
import { BarGauge, BigValue, GlobalStyles, PanelChrome, TimeSeries } from '@grafana/ui';
import { TableNG } from '@grafana/ui/unstable';
import '@fontsource/inter/latin-400.css';
import '@fontsource/inter/latin-500.css';

type Labels = Record<string, string>;
type Answer = { metric: Labels; values?: [number, string][]; value?: [number, string] };
type Given = {
  dashboard: any; answers: Record<string, Answer[]>; exemplars: Record<string, any[]>;
  start: number; end: number; step: number; heading: string;
};
const given = (window as any).GIVEN as Given;
const theme = createTheme({ colors: { mode: 'dark' } });
const COLUMN = (1280 - 2 * 8) / 24, LINE = 30, GAP = 8;

// Every setting is taken as it is: the panels' editors, which would bring defaults and checks,
// belong to Grafana's application.
const settings = new FieldConfigOptionsRegistry(() => {
  const plain = (id: string, path = id, isCustom = false) => ({
    id, path, isCustom, name: id, editor: (() => null) as any, override: (() => null) as any,
    process: (value: any) => value, shouldApply: () => true, settings: {},
  });
  const own = ['unit', 'min', 'max', 'decimals', 'displayName', 'noValue', 'color', 'thresholds', 'links'];
  const custom = ['lineStyle', 'lineWidth', 'fillOpacity', 'stacking', 'cellOptions', 'width', 'drawStyle',
    'lineInterpolation', 'gradientMode', 'showPoints', 'spanNulls', 'thresholdsStyle', 'axisPlacement',
    'axisSoftMax', 'align', 'inspect'];
  return [...own.map((id) => plain(id)), ...custom.map((id) => plain('custom.' + id, id, true))] as any;
});

standardTransformersRegistry.setInit(() =>
  [standardTransformers.mergeTransformer, standardTransformers.organizeFieldsTransformer]
    .map((one: any) => ({ id: one.id, name: one.name, transformation: one })) as any);

const named = (legend: string, labels: Labels) =>
  legend ? legend.replace(/\{\{(.+?)\}\}/g, (_, name) => labels[name] ?? '') : JSON.stringify(labels);

function curves(target: any, answers: Answer[]): DataFrame[] {
  const times: number[] = [];
  for (let at = given.start; at <= given.end; at += given.step) times.push(at);
  return answers.map((one) => {
    const found = new Map((one.values ?? [one.value!]).map(([at, value]) => [Math.round(at), Number(value)]));
    return toDataFrame({
      refId: target.refId,
      fields: [
        { name: 'Time', type: FieldType.time, values: times.map((at) => at * 1000), config: {} },
        {
          name: 'Value', type: FieldType.number, labels: one.metric,
          values: times.map((at) => found.get(Math.round(at)) ?? null),
          config: { displayNameFromDS: named(target.legendFormat, one.metric) },
        },
      ],
    });
  });
}

function numbers(target: any, answers: Answer[]): DataFrame[] {
  return answers.map((one) => toDataFrame({
    refId: target.refId,
    fields: [{
      name: 'Value', type: FieldType.number, labels: one.metric, values: [Number(one.value![1])],
      config: { displayNameFromDS: target.legendFormat ? named(target.legendFormat, one.metric) : undefined },
    }],
  }));
}

function rows(target: any, answers: Answer[], several: boolean): DataFrame {
  const labels = [...new Set(answers.flatMap((one) => Object.keys(one.metric)))].sort();
  return toDataFrame({
    refId: target.refId,
    fields: [
      { name: 'Time', type: FieldType.time, values: answers.map((one) => one.value![0] * 1000), config: {} },
      ...labels.map((name) => ({
        name, type: FieldType.string, values: answers.map((one) => one.metric[name] ?? ''), config: {},
      })),
      {
        name: several ? `Value #${target.refId}` : 'Value', type: FieldType.number,
        values: answers.map((one) => Number(one.value![1])), config: {},
      },
    ],
  });
}

function styled(panel: any, data: DataFrame[]): DataFrame[] {
  const fieldConfig = structuredClone(panel.fieldConfig);
  const base = (steps: any[]) => steps.forEach((step) => { step.value = step.value ?? -Infinity; });
  base(fieldConfig.defaults.thresholds.steps);
  for (const one of fieldConfig.overrides)
    for (const property of one.properties) if (property.id === 'thresholds') base(property.value.steps);
  panel.fieldConfig = fieldConfig;
  return applyFieldOverrides({
    data, fieldConfig, theme, fieldConfigRegistry: settings, timeZone: 'utc',
    replaceVariables: (text: string) => text,
  });
}

const key = (panel: any, target: any) => `${panel.id}${target.refId}`;
const answersOf = (panel: any, target: any) => given.answers[key(panel, target)] ?? [];

function displayed(panel: any) {
  const data = styled(panel, panel.targets.flatMap((target: any) => numbers(target, answersOf(panel, target))));
  return getFieldDisplayValues({
    fieldConfig: panel.fieldConfig, reduceOptions: panel.options.reduceOptions, data, theme,
    timeZone: 'utc', replaceVariables: (text: string) => text,
  });
}

function Stat({ panel, width, height }: any) {
  const [first] = displayed(panel);
  const empty = answersOf(panel, panel.targets[0]).length === 0;
  const value = empty ? { ...first.display, color: theme.colors.background.secondary } : first.display;
  return <BigValue value={value} width={width} height={height} theme={theme} {...panel.options} text={undefined} />;
}

function Bars({ panel, width, height }: any) {
  const values = displayed(panel);
  const each = Math.min(panel.options.maxVizHeight, Math.floor(height / values.length) - 6);
  return <>{values.map((one, index) => (
    <div key={index} style={{ marginBottom: 6 }}>
      <BarGauge value={one.display} field={one.field} display={one.view?.getFieldDisplayProcessor(one.colIndex!)}
        width={width} height={each} theme={theme} {...panel.options}
        alignmentFactors={{ title: 'worker 00', text: '100%' } as any} isOverflow={false} />
    </div>))}</>;
}

function Lines({ panel, width, height }: any) {
  const frames = styled(panel, panel.targets.flatMap((target: any) => curves(target, answersOf(panel, target))));
  if (frames.length === 0) return <Nothing />;
  const range = { from: dateTime(given.start * 1000), to: dateTime(given.end * 1000) };
  const dots = given.exemplars[String(panel.id)] ?? [];
  return (
    <TimeSeries frames={frames} width={width} height={height} timeZone="utc" legend={panel.options.legend}
      options={panel.options} timeRange={{ ...range, raw: range } as any}>
      {(config: any) => { mark(config, dots); return null; }}
    </TimeSeries>
  );
}

// Grafana's own exemplar markers belong to its time series panel, not to the library.
const marked = new WeakSet();
function mark(config: any, all: any[]) {
  // As Grafana does, only some of many: the slowest of every three seconds.
  const slowest = new Map<number, any>();
  for (const dot of all) {
    const at = Math.floor(dot.timestamp / 3);
    if (Number(dot.value) > Number(slowest.get(at)?.value ?? 0)) slowest.set(at, dot);
  }
  const dots = [...slowest.values()];
  if (dots.length > 0 && !marked.has(config)) {
    marked.add(config);
    config.addHook('draw', (plot: any) => {
      const scale = Object.keys(plot.scales).find((name) => name !== 'x' && plot.scales[name].max != null)!;
      plot.ctx.save();
      plot.ctx.fillStyle = '#F2F2F2';
      for (const dot of dots) {
        const x = plot.valToPos(dot.timestamp * 1000, 'x', true), y = plot.valToPos(Number(dot.value), scale, true);
        if (x < plot.bbox.left || x > plot.bbox.left + plot.bbox.width || y < plot.bbox.top) continue;
        plot.ctx.translate(x, y); plot.ctx.rotate(Math.PI / 4);
        plot.ctx.fillRect(-3, -3, 6, 6);
        plot.ctx.setTransform(1, 0, 0, 1, 0, 0);
      }
      plot.ctx.restore();
    });
  }
}

function Table({ panel, width, height }: any) {
  const [data, setData] = React.useState<DataFrame[]>();
  React.useEffect(() => {
    const several = panel.targets.length > 1;
    const frames = panel.targets
      .map((target: any) => rows(target, answersOf(panel, target), several))
      .filter((frame: DataFrame) => frame.length > 0);
    lastValueFrom(transformDataFrame(panel.transformations, frames)).then((done) => {
      // Merged frames count their rows by a getter, which the other transformations' copies lose.
      const counted = done.map((frame) => ({ ...frame, length: frame.fields[0]?.values.length ?? 0 }));
      const data = styled(panel, counted);
      // The table shows the name that is kept in the field's state.
      for (const frame of data) for (const field of frame.fields) getFieldDisplayName(field, frame, data);
      setData(data);
    });
  }, []);
  if (data === undefined) return null;
  if (data.length === 0 || data[0].length === 0) return <Nothing />;
  return <TableNG data={data[0]} width={width} height={height} cellHeight={panel.options.cellHeight}
    initialSortBy={panel.options.sortBy} fieldConfig={panel.fieldConfig} />;
}

const Nothing = () => <div style={{ color: theme.colors.text.secondary, textAlign: 'center', paddingTop: 40 }}>No data</div>;
const KINDS: Record<string, any> = { stat: Stat, bargauge: Bars, timeseries: Lines, table: Table };

function Place({ panel }: any) {
  const { x, y, w, h } = panel.gridPos;
  const at = { position: 'absolute' as const, left: 8 + x * COLUMN, top: 44 + y * (LINE + GAP) };
  const width = w * COLUMN - GAP, height = h * (LINE + GAP) - GAP;
  if (panel.type === 'row') return <div style={{ ...at, paddingTop: 8, fontWeight: 500 }}>⌄ {panel.title}</div>;
  const Kind = KINDS[panel.type];
  return (
    <div style={at}>
      <PanelChrome title={panel.title} description={panel.description} width={width} height={height}>
        {(inner: number, high: number) => <Kind panel={panel} width={inner} height={high} />}
      </PanelChrome>
    </div>
  );
}

const high = Math.max(...given.dashboard.panels.map((one: any) => one.gridPos.y + one.gridPos.h));
createRoot(document.getElementById('root')!).render(
  <ThemeContext.Provider value={theme}>
    <GlobalStyles />
    <div style={{
      position: 'relative', width: 1280, height: 52 + high * (LINE + GAP), overflow: 'hidden',
      background: theme.colors.background.canvas, color: theme.colors.text.primary,
      fontFamily: theme.typography.fontFamily, fontSize: 14, lineHeight: theme.typography.body.lineHeight,
    }}>
      <div style={{ padding: '12px 8px' }}>
        <b style={{ fontWeight: 500 }}>{given.dashboard.title}</b>
        <span style={{ color: theme.colors.text.secondary, paddingLeft: 16 }}>{given.heading}</span>
      </div>
      {given.dashboard.panels.map((panel: any) => <Place key={panel.id} panel={panel} />)}
    </div>
  </ThemeContext.Provider>);
