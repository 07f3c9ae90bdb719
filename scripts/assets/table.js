// What the page uses of TanStack Table: a table's rows, sorted by several columns, and which columns are seen.
export { columnVisibilityFeature, constructTable, createSortedRowModel, rowSortingFeature, tableFeatures } from '@tanstack/table-core';
export { storeReactivityBindings } from '@tanstack/table-core/store-reactivity-bindings';
