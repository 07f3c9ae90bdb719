// What the page uses of Observable Plot, and the symbols of its legends.
export { plot, line, areaY, dot, rect, ruleX, cell, text, axisX, axisY, gridX, gridY, link } from '@observablehq/plot';
export { symbol, symbolCircle, symbolDiamond, symbolSquare, symbolTriangle } from 'd3-shape';
