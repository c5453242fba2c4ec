import{a}from"./chunk-AKD4WEBA.js";import"./chunk-PPGI55EX.js";import"./chunk-LYFLPCYE.js";export{a as Curves};
